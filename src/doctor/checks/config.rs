//! Settings: the file that was given, what runs, and what is open to others.

use super::super::facts::{Answer, Facts};
use super::super::report::{Findings, Group, Mark};
use crate::config::Address;
use crate::telemetry::Code;

pub(super) fn check(facts: &Facts, findings: &mut Findings) {
    let mut add = |code, mark, found: String, fix: String| {
        findings.add(Group::Config, code, mark, found, fix);
    };
    if let Some((file, wrong)) = &facts.settings.file {
        match wrong {
            None => add(
                Code::ConfigInvalid,
                Mark::Ok,
                format!("{file} has no mistakes"),
                String::new(),
            ),
            Some(first) => add(
                Code::ConfigInvalid,
                Mark::Error,
                first.clone(),
                format!("hopspan check {file}"),
            ),
        }
        if facts.settings.sub_path {
            let found = format!("{file} is mounted by subPath: edits are never seen");
            add(
                Code::ConfigSubPath,
                Mark::Warn,
                found,
                "mount the ConfigMap as a folder".to_owned(),
            );
        }
    }
    for (fatal, wrong) in &facts.settings.environment {
        let (mark, fix) = match fatal {
            true => (Mark::Error, "hopspan run does not start with it"),
            false => (Mark::Warn, "its default is used"),
        };
        add(Code::OtelEnvironment, mark, wrong.clone(), fix.to_owned());
    }
    if facts.sidecar.answer == Answer::Whole {
        running(facts, &mut add);
    }
    open(facts, &mut add);
}

fn running(facts: &Facts, add: &mut impl FnMut(Code, Mark, String, String)) {
    let sidecar = &facts.sidecar;
    match &sidecar.reload_error {
        None => {
            let found = format!(
                "generation {} serves, and no reload was refused",
                sidecar.generation
            );
            add(Code::ReloadRefused, Mark::Ok, found, String::new());
        }
        Some(errors) => {
            let first = errors.lines().next().unwrap_or_default();
            let found = format!(
                "the last reload was refused, generation {} serves on: {first}",
                sidecar.generation
            );
            let fix = "hopspan check FILE, mend it, hopspan reload".to_owned();
            add(Code::ReloadRefused, Mark::Error, found, fix);
        }
    }
    if !sidecar.needs_restart.is_empty() {
        let found = format!(
            "changed in the file, in use after a restart: {}",
            sidecar.needs_restart.join(", ")
        );
        add(
            Code::NeedsRestart,
            Mark::Warn,
            found,
            "restart hopspan when it suits".to_owned(),
        );
    }
}

fn open(facts: &Facts, add: &mut impl FnMut(Code, Mark, String, String)) {
    let settings = &facts.settings;
    let mut doors = Vec::new();
    if !is_local(&settings.admin) {
        doors.push(format!("admin listens at {}", settings.admin));
    }
    if settings
        .clients
        .iter()
        .any(|network| network.ends_with("/0"))
    {
        doors.push(format!(
            "outbound serves everyone who reaches {}",
            settings.outbound
        ));
    }
    match doors.as_slice() {
        [] => add(
            Code::DoorsOpen,
            Mark::Ok,
            "outbound and admin serve this host only, or networks that were named".to_owned(),
            String::new(),
        ),
        some => add(
            Code::DoorsOpen,
            Mark::Warn,
            some.join("; "),
            "admin.listen: 127.0.0.1:9465; outbound.clients: the app's network only".to_owned(),
        ),
    }
}

fn is_local(listener: &str) -> bool {
    match listener.parse() {
        Ok(Address::Tcp { host, .. }) => {
            let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            ip.map_or(&*host == "localhost", |ip| ip.is_loopback())
        }
        Ok(Address::Unix(_)) => true,
        // What cannot be read is not reported as open.
        Err(_) => true,
    }
}
