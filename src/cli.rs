//! Argv: the subcommands and their flags, nothing else. What they do is in `cli/`.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage (clap), 3 findings; wrap mode passes the child's code on (128+n for signals,
//! 127 not found, 126 not executable).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hopspan::config::{Address, App};
use hopspan::telemetry::Code;

pub mod ask;
pub mod check;
pub mod doctor;
pub mod run;
pub mod start_line;
pub mod view;

const EXAMPLES: &str = "\
Examples:
  hopspan run --app 127.0.0.1:8000 --view -- gunicorn shop.wsgi    start the app traced, with a viewer
  hopspan trace --errors                                           read the newest trace with an error

Exit codes: 0 ok, 1 failed, 2 usage, 3 findings of `doctor --fail-on`; `run -- COMMAND` passes the command's code on.";

/// Traces services nobody instrumented: a sidecar proxy that makes the spans and proves the joins.
#[derive(Parser)]
#[command(name = "hopspan", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the sidecar in front of an app, and optionally start that app.
    Run(Box<RunArgs>),
    /// Check a config file and exit, like `nginx -t`.
    Check {
        /// The config file.
        file: PathBuf,
    },
    /// Run the viewer: an OTLP receiver with a trace list and a waterfall.
    View(ViewArgs),
    /// Show a trace of a running viewer as a waterfall.
    Trace(TraceArgs),
    /// Reload the config of a running sidecar; 0 only when the new generation serves.
    Reload(AdminArgs),
    /// Tell a running sidecar that it will stop: it is no longer ready, but serves (for preStop).
    Drain {
        #[command(flatten)]
        admin: AdminArgs,
        /// Wait this long before returning, so that load balancers notice.
        #[arg(long, default_value = "0s", value_parser = duration)]
        wait: std::time::Duration,
    },
    /// What works here, what does not, why, and what would change it: of a running sidecar, or of this host.
    Doctor(DoctorArgs),
    /// What a code (as HOP114) means and what to do; without one, the list of all codes.
    Explain {
        /// A code, its digits, or a `hopspan.unlinked.reason`.
        #[arg(value_parser = code)]
        code: Option<Code>,
    },
    /// Ask a running sidecar whether it is ready (for exec probes in an image without a shell).
    Health {
        /// The status listener.
        #[arg(long, env = "HOPSPAN_STATUS", default_value = "127.0.0.1:9464")]
        status: Address,
    },
}

/// `hopspan run`
#[derive(Args)]
pub struct RunArgs {
    /// Where the app listens: host:port, unix:/path or https://host:port. Repeat for fail-over.
    #[arg(long, env = "HOPSPAN_APP", value_delimiter = ',')]
    pub app: Vec<App>,
    /// Config file (YAML), watched and reloaded.
    #[arg(long, env = "HOPSPAN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Inbound listener [default: 0.0.0.0:8080].
    #[arg(long, env = "HOPSPAN_INBOUND")]
    pub inbound: Option<Address>,
    /// Outbound listener [default: 127.0.0.1:8081].
    #[arg(long, env = "HOPSPAN_OUTBOUND")]
    pub outbound: Option<Address>,
    /// Status listener: probes and metrics [default: 0.0.0.0:9464].
    #[arg(long, env = "HOPSPAN_STATUS")]
    pub status: Option<Address>,
    /// Admin listener: config, joins, reload [default: 127.0.0.1:9465].
    #[arg(long, env = "HOPSPAN_ADMIN")]
    pub admin: Option<Address>,
    /// service.name of the app (OTEL_SERVICE_NAME wins).
    #[arg(long, env = "HOPSPAN_SERVICE")]
    pub service: Option<String>,
    /// Run the viewer in this process and export to it.
    #[arg(long, env = "HOPSPAN_VIEW")]
    pub view: bool,
    /// Set HTTPS_PROXY for the command too: its TLS calls become CONNECT tunnels with a span each, without a header.
    #[arg(long)]
    pub https_proxy: bool,
    /// Leave proxy variables that are already set as they are.
    #[arg(long)]
    pub keep_proxy: bool,
    /// Do not give the command the Python shim (PYTHONPATH), which lets threads and async code be joined.
    #[arg(long, env = "HOPSPAN_NO_SHIM")]
    pub no_shim: bool,
    /// Start this command as hopspan's child, with HTTP_PROXY set (wrap mode).
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `hopspan doctor`
#[derive(Args)]
pub struct DoctorArgs {
    /// Look at the pods of a Kubernetes manifest and at nothing else, offline; `-` is stdin.
    #[arg(short, long, value_name = "MANIFEST")]
    pub file: Option<PathBuf>,
    /// The config file that the sidecar has, or would have.
    #[arg(short, long, env = "HOPSPAN_CONFIG")]
    pub config: Option<PathBuf>,
    /// The sidecar's admin listener [default: as configured, 127.0.0.1:9465].
    #[arg(long, env = "HOPSPAN_ADMIN")]
    pub admin: Option<Address>,
    /// Where the app listens, where no sidecar runs that knows.
    #[arg(long, env = "HOPSPAN_APP")]
    pub app: Option<Address>,
    /// How to say it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Exit with 3 if something is as bad as this, or worse.
    #[arg(long, value_name = "MARK")]
    pub fail_on: Option<FailOn>,
    /// Wait so long for the sidecar to be ready and the app to accept connections.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub wait: std::time::Duration,
    /// Give each that is asked so long to answer, on a host that is slow [default: less than a second].
    #[arg(long, value_parser = duration)]
    pub timeout: Option<std::time::Duration>,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t)]
    pub color: When,
}

/// `hopspan doctor -o`
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Everything, by group.
    #[default]
    Table,
    /// One JSON document (config/doctor.schema.json).
    Json,
    /// What is wrong, a line each.
    Short,
}

/// `hopspan doctor --fail-on`
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FailOn {
    /// Something is lost that need not be.
    Warn,
    /// Something does not work.
    Error,
}

/// `hopspan view`
#[derive(Args)]
pub struct ViewArgs {
    /// OTLP/gRPC receiver.
    #[arg(long, env = "HOPSPAN_VIEW_GRPC", default_value = "127.0.0.1:4317")]
    pub grpc: Address,
    /// OTLP/HTTP receiver.
    #[arg(long, env = "HOPSPAN_VIEW_HTTP", default_value = "127.0.0.1:4318")]
    pub http: Address,
    /// Page and API.
    #[arg(long, env = "HOPSPAN_VIEW_PAGE", default_value = "127.0.0.1:4319")]
    pub page: Address,
}

/// `hopspan trace`
#[derive(Args)]
// A group of its own: the one that derive makes of the struct would hold every option.
#[command(group(clap::ArgGroup::new("which").required(true).multiple(false).args(["id", "last", "errors"])))]
pub struct TraceArgs {
    /// Trace ID, or a prefix that only one trace has.
    pub id: Option<String>,
    /// The newest trace.
    #[arg(long)]
    pub last: bool,
    /// The newest trace with an error: it failed, or somebody swallowed a failure.
    #[arg(long)]
    pub errors: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// Without Unicode bars.
    #[arg(long)]
    pub ascii: bool,
    /// When to use colour.
    #[arg(long, value_enum, default_value_t)]
    pub color: When,
    /// The viewer's page address.
    #[arg(long, env = "HOPSPAN_VIEW_PAGE", default_value = "127.0.0.1:4319")]
    pub viewer: Address,
}

/// `--color`
#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<When> for hopspan::view::terminal::ColorWhen {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

/// Where a running sidecar's admin listener is.
#[derive(Args)]
pub struct AdminArgs {
    /// The admin listener.
    #[arg(long, env = "HOPSPAN_ADMIN", default_value = "127.0.0.1:9465")]
    pub admin: Address,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    hopspan::config::duration::parse(text).map_err(|advice| advice.to_string())
}

fn code(text: &str) -> Result<Code, String> {
    let none = || "no such code; `hopspan explain` lists them".to_owned();
    hopspan::doctor::explain::find(text).ok_or_else(none)
}

/// Whether to colour what goes to `stream`: a terminal, and nobody said no (<https://no-color.org>).
pub fn colors(stream: &impl std::io::IsTerminal) -> bool {
    let said = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if said("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return false;
    }
    said("CLICOLOR_FORCE") || stream.is_terminal()
}
