//! `hopspan doctor` and what it asks: every check has a case that provokes it and one in which it is silent. The worlds
//! that a test cannot make (kernels, Yama) are made up in `src/doctor/checks/tests.rs`; those that need other users,
//! capabilities and namespaces are in `tests/real`.

use serde_json::Value;

use crate::support::{binary, process::Process, python, schema};

mod host;
mod running;
mod servers;
mod told;

/// What `hopspan doctor -o json` said.
#[derive(Debug)]
struct Told {
    code: i32,
    report: Value,
}

/// Runs it, with an environment, and all the time that a busy machine may take for an answer.
async fn doctor(args: &[&str], env: &[(&str, &str)]) -> Told {
    hasty_doctor(&[&["--timeout", "50s"], args].concat(), env).await
}

/// Runs it as it is, with an environment. It is whole, ends (its limits come to less than 2 s by `src/doctor/gather.rs`,
/// which does not build otherwise), and as its schema says.
async fn hasty_doctor(args: &[&str], env: &[(&str, &str)]) -> Told {
    let mut command = binary::command(["doctor", "-o", "json"].iter().chain(args).copied());
    command.envs(env.iter().copied());
    let process = Process::start(command);
    let code = process.exit().await;
    let stdout = process.stdout();
    let report = serde_json::from_str(&stdout)
        .unwrap_or_else(|error| panic!("{error}: {stdout}{}", process.stderr()));
    let file = python::root().join("config/doctor.schema.json");
    let schema = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(schema::faults(&schema, &report), [""; 0], "{report:#}");
    Told { code, report }
}

impl Told {
    fn checks(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let checks = self.report["checks"].as_array().unwrap().iter();
        checks.map(|check| {
            let text = |name: &str| check[name].as_str().unwrap();
            (text("code"), text("mark"), text("found"))
        })
    }

    /// The checks that came out as `mark`, by their codes.
    fn marked(&self, mark: &str) -> Vec<&str> {
        let marked = self.checks().filter(|check| check.1 == mark);
        marked.map(|(code, ..)| code).collect()
    }

    /// Fails unless `code` came out as `mark` and says `words`.
    #[track_caller]
    fn has(&self, code: &str, mark: &str, words: &str) {
        let hit = |check: (&str, &str, &str)| {
            check.0 == code && check.1 == mark && check.2.contains(words)
        };
        assert!(
            self.checks().any(hit),
            "no {code} {mark} `{words}`: {:#}",
            self.report
        );
    }
}
