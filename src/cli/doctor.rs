//! `hopspan doctor` and `hopspan explain`: to stdout, and an exit code.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use hopspan::config::Config;
use hopspan::config::otel_env::OtelEnv;
use hopspan::doctor::report::{Mark, Report};
use hopspan::doctor::{self, Options, explain, table};
use hopspan::telemetry::Code;

use super::{DoctorArgs, FailOn, Output, When};

/// `--fail-on` found something.
const FINDINGS: u8 = 3;

/// `hopspan doctor`: 0 whatever it finds, 3 with `--fail-on`, 1 if it cannot look.
pub fn doctor(args: DoctorArgs) -> ExitCode {
    let looked = match &args.file {
        Some(file) => Ok(manifest(file)),
        None => look(&args),
    };
    let report = match looked {
        Ok(report) => report,
        Err(why) => {
            eprintln!("hopspan: {why}");
            return ExitCode::FAILURE;
        }
    };
    tell(&report, args.output, args.color);
    let limit = args.fail_on.map(|limit| match limit {
        FailOn::Warn => Mark::Warn,
        FailOn::Error => Mark::Error,
    });
    match limit {
        Some(limit) if report.has(limit) => ExitCode::from(FINDINGS),
        _ => ExitCode::SUCCESS,
    }
}

/// Of a file, or of stdin.
fn manifest(file: &Path) -> Report {
    let (name, text) = match file.to_str() {
        Some("-") => (
            "stdin".to_owned(),
            std::io::read_to_string(std::io::stdin()),
        ),
        _ => (file.display().to_string(), std::fs::read_to_string(file)),
    };
    match text {
        Ok(text) => doctor::manifest::lint(&name, &text),
        Err(error) => doctor::manifest::unreadable_file(&name, &error),
    }
}

fn look(args: &DoctorArgs) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    Ok(runtime.block_on(doctor::examine(&options(args))))
}

/// As the sidecar that would be started in this environment reads its settings.
fn options(args: &DoctorArgs) -> Options {
    let mut environment = Vec::new();
    let env = OtelEnv::read(|name| std::env::var(name).ok()).unwrap_or_else(|errors| {
        environment.extend(errors.into_iter().map(|error| (true, error)));
        OtelEnv::default()
    });
    environment.extend(env.warnings.iter().map(|warning| (false, warning.clone())));
    let app = args.app.clone();
    let overlay = move |config: &mut Config| {
        if let Some(app) = &app {
            config.inbound.app = vec![app.clone().into()];
        }
        config.overlay(&env);
    };
    Options {
        admin: args.admin.clone(),
        app: args.app.clone(),
        config: args.config.clone(),
        overlay: Box::new(overlay),
        environment,
        wait: args.wait,
        timeout: args.timeout,
    }
}

fn tell(report: &Report, output: Output, color: When) {
    let color = match color {
        When::Always => true,
        When::Never => false,
        When::Auto => super::colors(&std::io::stdout()),
    };
    print(&match output {
        Output::Table => table::table(report, color),
        Output::Short => table::short(report, color),
        // A report is plain data: this cannot fail.
        Output::Json => serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
    });
}

/// `hopspan explain`: a code's page, or the list of all.
pub fn explain(code: Option<Code>) -> ExitCode {
    match code {
        Some(code) => print(explain::page(code)),
        None => print(&explain::list()),
    }
    ExitCode::SUCCESS
}

/// A reader that has left (`| head`) is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
