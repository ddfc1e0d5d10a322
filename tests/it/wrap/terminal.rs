//! Wrap mode on a terminal: the child reads it, Ctrl-C is the child's, Ctrl-Z and `fg` work.

use std::process::Command;

use crate::support::process::Process;

use super::{COMMAND, told};

/// A terminal: runs argv as the leader of its session, under a shell with job control when asked.
const TERMINAL: &str = r#"
import os, pty, select, sys
pid, master = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    ready, _, _ = select.select([0, master], [], [])
    try:
        if 0 in ready:
            typed = os.read(0, 1024)
            os.write(master, typed)
        if master in ready:
            os.write(1, os.read(master, 1024))
    except OSError:
        break
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"#;

fn in_terminal(shell: &[&str], wrapped: &[&str]) -> Process {
    let mut command = Command::new("python3");
    command
        .args(["-c", TERMINAL])
        .args(shell)
        .env(COMMAND, serde_json::to_string(wrapped).unwrap())
        .env("HOPSPAN", std::env::current_exe().unwrap());
    Process::start(command)
}

const INNER: &str = "\"$HOPSPAN\" --ignored --exact wrap::inner --nocapture -q";

#[tokio::test]
async fn the_child_reads_the_terminal_and_gets_ctrl_c() {
    // SIGINT kills it at once: Python's own handler is lost where it comes between the interpreter's last look at its
    // signals and the sleep.
    let program = r#"
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
print(f"ready={os.getpid()}", flush=True)
print("word", input(), flush=True)
time.sleep(1000)
"#;
    let wrapped = ["python3", "-c", program];
    let script = format!("exec {INNER}");
    let mut terminal = in_terminal(&["sh", "-c", &script], &wrapped);
    told(&terminal, "ready").await;
    terminal.write("hello\n");
    terminal.line("word hello").await;
    terminal.write("\u{3}");
    assert_eq!(terminal.exit().await, 130, "{}", terminal.output());
}

#[tokio::test]
async fn ctrl_z_stops_both_and_fg_continues_both() {
    let wrapped = [
        "sh",
        "-c",
        "echo ready=$$; read word; echo \"word $word\"; exit 8",
    ];
    // The shell has job control, so it sees hopspan stop.
    let script = format!("{INNER}; echo stopped=$?; fg >/dev/null; echo code=$?");
    let mut terminal = in_terminal(&["sh", "-mc", &script], &wrapped);
    told(&terminal, "ready").await;
    terminal.write("\u{1a}");
    assert!(told(&terminal, "stopped").await > 128);
    terminal.write("again\n");
    terminal.line("word again").await;
    assert_eq!(told(&terminal, "code").await, 8);
}
