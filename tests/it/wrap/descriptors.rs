//! The descriptors that hopspan takes, and that the wrapped command gets none of them.

use std::process::Command;

use crate::support::{binary, eventually, raw, sidecar};

#[tokio::test]
async fn hopspan_takes_what_it_may_have_and_the_command_keeps_its_limit() {
    let told = tempfile::tempdir().unwrap();
    let told = told.path().join("limits");
    let tell = "echo $(ulimit -Sn) $(ulimit -Hn) >\"$0\" && exec sleep 1000";
    let wrapped = ["sh", "-c", tell, told.to_str().unwrap()];
    let (folder, inner) = binary::wrapping_command(&sidecar::to(raw::closed_port()), &[], &wrapped);
    let mut command = Command::new("sh");
    let limited = "ulimit -Sn 200 && ulimit -Hn 3000 && exec \"$0\" \"$@\"";
    command.args(["-c", limited]).arg(inner.get_program());
    command.args(inner.get_args());
    let hopspan = binary::serving(folder, command).await;
    let path = format!("/proc/{}/limits", hopspan.process.pid());
    let limits = std::fs::read_to_string(path).unwrap();
    let files = limits.lines().find(|l| l.starts_with("Max open files"));
    let files: Vec<_> = files.unwrap().split_ascii_whitespace().collect();
    assert_eq!(files[3..5], ["3000", "3000"]);
    let read = || std::fs::read_to_string(&told).unwrap_or_default();
    eventually("the command", || read().ends_with('\n')).await;
    assert_eq!(read(), "200 3000\n");
}
