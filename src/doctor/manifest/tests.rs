use std::collections::BTreeSet;

use super::*;
use Code::*;

const DEPLOYED: &str = include_str!("../../../deploy/kubernetes/deployment.yaml");
const RESTRICTED: &str =
    "            readOnlyRootFilesystem: true\n            capabilities: {drop: [ALL]}\n";

/// The manifest as it is deployed, but for one text.
fn but(from: &str, to: &str) -> String {
    assert_eq!(DEPLOYED.matches(from).count(), 1, "{from}");
    DEPLOYED.replace(from, to)
}

fn capable(user: &str, added: &str) -> String {
    but(
        RESTRICTED,
        &format!("            {user}\n            capabilities: {{drop: [ALL], add: [{added}]}}\n"),
    )
}

fn worlds() -> Vec<(Code, Mark, String, &'static str)> {
    let proxies = "            - {name: HTTP_PROXY, value: \"http://127.0.0.1:8081\"}\n            - {name: http_proxy, value: \"http://127.0.0.1:8081\"}\n";
    let mount = "mountPath: /etc/hopspan                     # the folder, not subPath: only then are edits seen\n";
    vec![
        (ManifestUnreadable, Mark::Error, "a: [".to_owned(), "no pod can be read"),
        (ManifestUnreadable, Mark::Error, "kind: Service\n".to_owned(), "no object with a pod"),
        (
            ManifestNoSidecar,
            Mark::Error,
            DEPLOYED.replace("- name: hopspan\n          image: hopspan:", "- name: side\n          image: envoy:"),
            "Deployment order: no container",
        ),
        (ManifestPidNamespace, Mark::Warn, but("shareProcessNamespace: true", "hostNetwork: false"), "serial rung is off"),
        (
            ManifestUser,
            Mark::Warn,
            but("            capabilities: {drop: [ALL]}\n\n      vol", "            runAsUser: 1000\n\n      vol"),
            "different users",
        ),
        (ManifestUser, Mark::Note, but("        runAsUser: 65532\n", ""), "its image's"),
        (ManifestCapabilities, Mark::Warn, capable("readOnlyRootFilesystem: true", "BPF, PERFMON"), "as user 65532"),
        (ManifestCapabilityPair, Mark::Warn, capable("runAsUser: 0", "CAP_BPF"), "CAP_BPF alone"),
        (ManifestProxy, Mark::Warn, but(proxies, ""), "no container of the app"),
        (
            ManifestProxy,
            Mark::Note,
            but("          env:\n            # The app's own", "          envFrom: [{configMapRef: {name: e}}]\n          env:\n            # The app's own").replace(proxies, ""),
            "envFrom",
        ),
        (
            ManifestProxy,
            Mark::Note,
            but("            - {name: http_proxy, value: \"http://127.0.0.1:8081\"}\n", ""),
            "only one",
        ),
        (
            ManifestNotNative,
            Mark::Warn,
            but("          restartPolicy: Always                           # what makes it a sidecar\n", "")
                .replace("      initContainers:\n", "      containers:\n")
                .replace("\n      containers:\n        - name: app", "\n        - name: app"),
            "ordinary container",
        ),
        (
            ManifestSubPath,
            Mark::Warn,
            but(mount, "mountPath: /etc/hopspan/hopspan.yaml\n              subPath: hopspan.yaml\n"),
            "never seen",
        ),
    ]
}

#[test]
fn what_is_deployed_has_nothing_to_say() {
    let report = lint("deployment.yaml", DEPLOYED);
    let said = report.said();
    assert!(said.is_empty(), "{said:#?}");
    assert_eq!(report.checks.len(), 7);
}

#[test]
fn every_check_finds_what_it_is_for_and_nothing_else() {
    for (code, mark, text, words) in worlds() {
        let report = lint("deployment.yaml", &text);
        let found = report.said();
        // A hopspan of another user than the app's may have a word on that, too.
        let others = found
            .iter()
            .filter(|check| check.code != code && check.mark >= Mark::Warn);
        let others: Vec<_> = others.filter(|check| check.code != ManifestUser).collect();
        assert!(others.is_empty(), "{code} {words}: {others:#?}");
        let hit = |check: &&&super::super::report::Check| {
            check.code == code && check.mark == mark && check.found.contains(words)
        };
        assert!(
            found.iter().any(|check| hit(&check)),
            "{code} {words}: {found:#?}"
        );
        assert!(
            found.iter().all(|check| !check.fix.is_empty()),
            "{found:#?}"
        );
    }
}

#[test]
fn every_code_of_a_manifest_is_provoked() {
    let provoked: BTreeSet<Code> = worlds().iter().map(|(code, ..)| *code).collect();
    let all = Code::ALL
        .iter()
        .filter(|code| code.as_str().starts_with("HOP2"));
    let missing: Vec<_> = all.filter(|code| !provoked.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_pod_of_the_thread_rung_needs_neither_processes_nor_users_in_common() {
    let text = capable("runAsUser: 0", "BPF, PERFMON")
        .replace("shareProcessNamespace: true", "hostNetwork: false");
    let report = lint("pod", &text);
    assert!(!report.has(Mark::Warn), "{report:#?}");
}

#[test]
fn every_kind_with_a_pod_is_read_and_wrap_mode_is_known() {
    let container =
        "containers: [{name: app, image: shop, command: [/hopspan, run, --, gunicorn]}]";
    let rows = [
        ("kind: Pod\nmetadata: {name: a}\nspec: {CONTAINER}", "Pod a"),
        (
            "kind: Job\nspec: {template: {spec: {CONTAINER}}}",
            "Job without a name",
        ),
        (
            "kind: CronJob\nmetadata: {name: c}\nspec: {jobTemplate: {spec: {template: {spec: {CONTAINER}}}}}",
            "CronJob c",
        ),
        (
            "kind: List\nitems: [{kind: Pod, metadata: {name: d}, spec: {CONTAINER}}]",
            "Pod d",
        ),
        (
            "kind: Service\n---\nkind: DaemonSet\nmetadata: {name: e}\nspec: {template: {spec: {CONTAINER}}}",
            "DaemonSet e",
        ),
    ];
    for (text, name) in rows {
        let report = lint("f", &text.replace("CONTAINER", container));
        assert!(!report.has(Mark::Note), "{name}: {report:#?}");
        assert!(
            report
                .checks
                .iter()
                .all(|check| check.found.starts_with(name)),
            "{report:#?}"
        );
        assert_eq!(report.checks.len(), 3, "{name}");
    }
}
