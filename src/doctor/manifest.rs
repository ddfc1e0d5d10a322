//! `hopspan doctor -f FILE`: what a Kubernetes manifest allows hopspan to do, before anything runs.
//!
//! It reads the pod templates in a file, offline, and judges only what bears on hopspan: whether it is there, what it
//! may see and do, whether the app's calls reach it. Everything else is Kubernetes' own to check (`kubectl apply
//! --dry-run=server`). What an image sets (its user, its environment) is not in the file, and not guessed.

mod pod;

use serde_json::Value;

use super::report::{Findings, Group, Mark, Report};
use crate::telemetry::Code;
use pod::{Pod, Role};

/// Judges the pods in `text`, which came from `name`.
pub fn lint(name: &str, text: &str) -> Report {
    let mut findings = Findings::default();
    match pods(text) {
        Ok(pods) if pods.is_empty() => unreadable(&mut findings, "it holds no object with a pod"),
        Ok(pods) => pods.iter().for_each(|pod| judge(pod, &mut findings)),
        Err(error) => unreadable(&mut findings, &error),
    }
    findings.report(format!("{name}, without a cluster"))
}

/// That a file cannot be read at all.
pub fn unreadable_file(name: &str, error: &std::io::Error) -> Report {
    let mut findings = Findings::default();
    unreadable(&mut findings, &error.to_string());
    findings.report(name.to_owned())
}

fn unreadable(findings: &mut Findings, why: &str) {
    findings.add(
        Group::Kubernetes,
        Code::ManifestUnreadable,
        Mark::Error,
        format!("no pod can be read from the manifest: {why}"),
        "kubectl apply --dry-run=client -f FILE says where it breaks",
    );
}

/// All pods of all documents; `kind: List` holds objects, too.
fn pods(text: &str) -> Result<Vec<Pod>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    })?;
    let items = |document: &Value| match document.get("items").and_then(Value::as_array) {
        Some(items) => items.clone(),
        None => vec![document.clone()],
    };
    Ok(documents
        .iter()
        .flat_map(items)
        .filter_map(|object| Pod::of(&object))
        .collect())
}

/// Adds what was found of one pod.
struct Teller<'a> {
    pod: &'a Pod,
    findings: &'a mut Findings,
}

impl Teller<'_> {
    fn ok(&mut self, code: Code, found: &str) {
        self.add(code, Mark::Ok, found, "");
    }

    fn add(&mut self, code: Code, mark: Mark, found: &str, fix: &str) {
        let found = format!("{}: {found}", self.pod.name);
        self.findings.add(Group::Kubernetes, code, mark, found, fix);
    }
}

fn judge(pod: &Pod, findings: &mut Findings) {
    let mut tell = Teller { pod, findings };
    let Some(hopspan) = &pod.hopspan else {
        return tell.add(
            Code::ManifestNoSidecar,
            Mark::Error,
            "no container runs hopspan",
            "add it as in deploy/kubernetes, or name its image or container hopspan",
        );
    };
    tell.ok(Code::ManifestNoSidecar, "a container runs hopspan");
    capabilities(hopspan, &mut tell);
    // In wrap mode hopspan's container is the app's, too.
    if !hopspan.wraps {
        let thread = hopspan.user == Some(0) && hopspan.adds(&["BPF", "PERFMON"]);
        visible(hopspan, thread, &mut tell);
        proxy(&mut tell);
        native(hopspan, &mut tell);
    }
    match hopspan.sub_path {
        false => tell.ok(Code::ManifestSubPath, "no config is mounted by subPath"),
        true => tell.add(
            Code::ManifestSubPath,
            Mark::Warn,
            "hopspan's config is mounted by subPath: edits are never seen",
            "mount the ConfigMap as a folder and point --config into it",
        ),
    }
}

fn capabilities(hopspan: &Role, tell: &mut Teller<'_>) {
    let (bpf, perfmon) = (hopspan.adds(&["BPF"]), hopspan.adds(&["PERFMON"]));
    if bpf != perfmon {
        let there = if bpf { "CAP_BPF" } else { "CAP_PERFMON" };
        tell.add(
            Code::ManifestCapabilityPair,
            Mark::Warn,
            &format!("{there} alone is added: the thread rung stays off"),
            "capabilities: { drop: [ALL], add: [BPF, PERFMON] }",
        );
    }
    if hopspan.added.is_empty() || hopspan.user == Some(0) {
        return tell.ok(Code::ManifestCapabilities, "no capability is added in vain");
    }
    let (mark, user) = match hopspan.user {
        Some(user) => (Mark::Warn, format!("hopspan runs as user {user}")),
        None => (Mark::Note, "hopspan's user is its image's".to_owned()),
    };
    tell.add(
        Code::ManifestCapabilities,
        mark,
        &format!("{user}: the capabilities that are added take effect for root only"),
        "runAsUser: 0 and runAsNonRoot: false in hopspan's container, or take them away",
    );
}

/// What the serial rung needs. With the thread rung it is worth a note.
fn visible(hopspan: &Role, thread: bool, tell: &mut Teller<'_>) {
    let bad = if thread { Mark::Note } else { Mark::Warn };
    match tell.pod.shares_processes {
        true => tell.ok(
            Code::ManifestPidNamespace,
            "hopspan sees the app's processes",
        ),
        false => tell.add(
            Code::ManifestPidNamespace,
            bad,
            "the pod does not share its process namespace: the serial rung is off",
            "shareProcessNamespace: true in the pod's spec",
        ),
    }
    let sees_all = hopspan.user == Some(0) && hopspan.adds(&["SYS_PTRACE", "DAC_READ_SEARCH"]);
    let users: Vec<Option<i64>> = tell.pod.apps.iter().map(|app| app.user).collect();
    let fix = "securityContext: { runAsNonRoot: true, runAsUser: 65532 } in the pod's spec, none in containers";
    if sees_all || hopspan.user.is_some() && users.iter().all(|user| *user == hopspan.user) {
        tell.ok(
            Code::ManifestUser,
            "hopspan and the app run as one user, or it may see all",
        );
    } else if hopspan.user.is_none() || users.contains(&None) {
        let found = "the user of hopspan or of the app is its image's: the serial rung needs one user for both";
        tell.add(Code::ManifestUser, Mark::Note, found, fix);
    } else {
        let found = "hopspan and the app run as different users: the serial rung is off";
        tell.add(Code::ManifestUser, bad, found, fix);
    }
}

fn proxy(tell: &mut Teller<'_>) {
    let apps = &tell.pod.apps;
    if apps.iter().any(|app| app.proxies.iter().any(|set| *set)) {
        let half = apps
            .iter()
            .any(|app| app.proxies == [true, false] || app.proxies == [false, true]);
        return match half {
            false => tell.ok(Code::ManifestProxy, "the app's calls are sent to hopspan"),
            true => tell.add(
                Code::ManifestProxy,
                Mark::Note,
                "only one of HTTP_PROXY and http_proxy leads to hopspan: some libraries read the other",
                "set both in the app's container",
            ),
        };
    }
    let hidden = apps.iter().any(|app| app.environment_elsewhere);
    let (mark, found) = match hidden {
        true => (
            Mark::Note,
            "no HTTP_PROXY is in the manifest; envFrom may bring it",
        ),
        false => (
            Mark::Warn,
            "no container of the app has an HTTP_PROXY that leads to hopspan",
        ),
    };
    let fix = "HTTP_PROXY and http_proxy: http://127.0.0.1:8081 in the app's container";
    tell.add(Code::ManifestProxy, mark, found, fix);
}

fn native(hopspan: &Role, tell: &mut Teller<'_>) {
    match hopspan.native {
        true => tell.ok(Code::ManifestNotNative, "hopspan is a native sidecar"),
        false => tell.add(
            Code::ManifestNotNative,
            Mark::Warn,
            "hopspan is an ordinary container: it starts in no order with the app, and Jobs do not end",
            "make it an init container with restartPolicy: Always (Kubernetes 1.29)",
        ),
    }
}

#[cfg(test)]
mod tests;
