//! Commands that ask a running sidecar: `reload`, `drain`, `health`. One HTTP request each; exit code 0 or 1.

use std::process::ExitCode;
use std::time::Duration;

use hopspan::admin::client::{self, Unanswered};
use hopspan::config::Address;
use http::{Method, StatusCode};

/// Longest wait for an answer; a sidecar answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// `hopspan reload`: 0 only when the new generation serves.
pub fn reload(admin: &Address) -> ExitCode {
    finish(admin, ask(Method::POST, admin, "/reload"), |answer| {
        let report: serde_json::Value = serde_json::from_str(answer).unwrap_or_default();
        let number = |name: &str| {
            report
                .get(name)
                .and_then(serde_json::Value::as_u64)
                .unwrap_or_default()
        };
        println!("generation {} -> {}", number("from"), number("to"));
        for setting in report
            .get("needs_restart")
            .and_then(serde_json::Value::as_array)
            .into_iter()
            .flatten()
        {
            println!("needs a restart: {}", setting.as_str().unwrap_or_default());
        }
    })
}

/// `hopspan drain`: the sidecar is no longer ready; returns after `wait`.
pub fn drain(admin: &Address, wait: Duration) -> ExitCode {
    finish(admin, ask(Method::POST, admin, "/drain"), |answer| {
        print!("{answer}");
        // The point of `--wait` is the time itself: load balancers must notice before TERM comes.
        std::thread::sleep(wait);
    })
}

/// `hopspan health`: 0 if ready.
pub fn health(status: &Address) -> ExitCode {
    finish(status, ask(Method::GET, status, "/readyz"), |answer| {
        print!("{answer}");
    })
}

fn finish(
    address: &Address,
    answer: Result<(StatusCode, String), Unanswered>,
    good: impl FnOnce(&str),
) -> ExitCode {
    match answer {
        Ok((status, body)) if status.is_success() => {
            good(&body);
            ExitCode::SUCCESS
        }
        Ok((_, body)) => {
            eprint!("{body}");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!(
                "hopspan: no answer from {address}: {why}; is `hopspan run` up, and is this its address?"
            );
            ExitCode::FAILURE
        }
    }
}

fn ask(method: Method, address: &Address, path: &str) -> Result<(StatusCode, String), Unanswered> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Unanswered::Failed(error.to_string()))?;
    runtime.block_on(client::ask(method, address, path, PATIENCE))
}
