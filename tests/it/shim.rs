//! Wrap mode gives its command the Python shim: unpacked while it runs, gone afterwards, and its calls are joined.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::app::{self, ReplyExt};
use crate::support::process::Process;
use crate::support::{binary, client, collector, eventually, python, raw};

/// hopspan before `app`, on ports of its own, with a folder for temporary files.
fn wrapped(app: &str, temporary: &Path, flags: &[&str], command: &[&str]) -> Command {
    let mut args = vec!["run", "--app", app];
    for door in ["--inbound", "--outbound", "--status", "--admin"] {
        args.extend([door, "127.0.0.1:0"]);
    }
    args.extend(flags);
    args.push("--");
    args.extend(command);
    let mut command = binary::command(args);
    command.env("TMPDIR", temporary);
    command.env("OTEL_TRACES_EXPORTER", "none");
    command.env_remove("PYTHONPATH");
    command
}

/// A command that says its environment and stays.
const TELL: [&str; 3] = [
    "sh",
    "-c",
    "echo \"told [$PYTHONPATH] [$HOPSPAN_OUTBOUND]\"; exec sleep 60",
];

/// The event of the start line.
async fn served(process: &Process) -> Value {
    let line = process.line("hopspan serves").await;
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn it_is_there_while_the_command_runs_and_gone_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(wrapped("127.0.0.1:1", folder.path(), &[], &TELL));
    let event = served(&process).await;
    let told = process.line("told [").await;
    let shim = folder.path().join(&names(folder.path())[0]);
    let outbound = event["outbound"]
        .as_str()
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    assert_eq!(told, format!("told [{}] [{outbound}]", shim.display()));
    assert_eq!(names(&shim), ["hopspan_shim", "sitecustomize.py"]);
    assert!(
        event["joins"].as_str().unwrap().contains("token"),
        "{event}"
    );
    process.signal(libc::SIGTERM);
    process.exit().await;
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn no_shim_is_none_and_no_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(wrapped("127.0.0.1:1", folder.path(), &["--no-shim"], &TELL));
    let event = served(&process).await;
    assert_eq!(process.line("told [").await, "told [] []");
    assert!(
        !event["joins"].as_str().unwrap().contains("token"),
        "{event}"
    );
    assert!(names(folder.path()).is_empty());
}

#[tokio::test]
async fn where_nothing_can_be_written_the_command_runs_without() {
    let process = Process::start(wrapped("127.0.0.1:1", Path::new("/proc"), &[], &TELL));
    let event = served(&process).await;
    assert_eq!(process.line("told [").await, "told [] []");
    assert!(
        !event["joins"].as_str().unwrap().contains("token"),
        "{event}"
    );
    assert!(process.output().contains("no shim"), "{}", process.output());
}

#[tokio::test]
async fn threads_of_an_unchanged_django_are_joined_to_their_request() {
    let service = app::http()
        .any(|_| async { app::reply(200).text("{}") })
        .run()
        .await;
    let collector = collector::grpc();
    let folder = tempfile::tempdir().unwrap();
    let port = raw::closed_port().to_string();
    let gunicorn = python::venv().join("bin/gunicorn");
    let config = python::root().join("tests/django/gunicorn.conf.py");
    let project = python::root().join("tests/django");
    let command = [
        gunicorn.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
        "--chdir",
        project.to_str().unwrap(),
        "--bind",
        &port,
        "--threads",
        "4",
        "probe.wsgi",
    ];
    let mut command = wrapped(&port, folder.path(), &[], &command);
    command
        .env_remove("OTEL_TRACES_EXPORTER")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", collector.protocol())
        .env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let process = Process::start(command);
    let inbound = served(&process).await["inbound"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let status = client::get(inbound, "/healthz").send().await.status;
    assert_eq!(status, 200, "{}", process.output());

    let trace = "0af7651916cd43dd8448eb211c80319c";
    let path = format!("/fan-out/?n=3&url=http://{}/", service.address);
    let answer = client::get(inbound, &path)
        .header("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"))
        .send()
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("hopspan-token"), None);
    let trace = collector.trace(trace, 5).await;
    let calls = trace
        .spans
        .iter()
        .filter(|span| span.attr("hopspan.parent.evidence") == "token");
    assert_eq!(calls.count(), 3, "{trace:?}");
    for asked in service.received(3).await {
        assert_eq!(asked.header("hopspan-token"), None);
    }
    process.signal(libc::SIGTERM);
    process.exit().await;
    eventually("no folder left", || names(folder.path()).is_empty()).await;
}
