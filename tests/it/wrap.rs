//! Wrap mode with real processes. hopspan's part runs in a process of its own (this binary again, at [`inner`]), since
//! it adopts and reaps every orphan.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use hopspan::wrap::{Child, Signals, WrapOptions, is_ancestor};

use crate::support::eventually;
use crate::support::process::{Process, signal_process, stat};

mod command;
mod descriptors;
mod terminal;

const COMMAND: &str = "HOPSPAN_TEST_WRAP_COMMAND";
const HTTPS: &str = "HOPSPAN_TEST_WRAP_HTTPS";
const KEEP: &str = "HOPSPAN_TEST_WRAP_KEEP";
/// Milliseconds of grace: TERM to hopspan then calls `terminate` instead of passing the signal on.
const GRACE: &str = "HOPSPAN_TEST_WRAP_GRACE";

/// A small sidecar: starts the command, passes signals on, returns its code.
#[test]
#[ignore = "the other side of the tests below, which start it"]
fn inner() {
    let Ok(command) = std::env::var(COMMAND) else {
        return;
    };
    let command: Vec<String> = serde_json::from_str(&command).unwrap();
    let command: Vec<OsString> = command.into_iter().map(OsString::from).collect();
    let grace = std::env::var(GRACE).ok().map(|text| text.parse().unwrap());
    let options = WrapOptions {
        https_proxy: std::env::var_os(HTTPS).is_some(),
        keep_proxy: std::env::var_os(KEEP).is_some(),
        extra_env: vec![("EXTRA".into(), "yes".into())],
        ..WrapOptions::new("0.0.0.0:8081".parse().unwrap())
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let code = runtime.block_on(async {
        let mut signals = Signals::new().unwrap();
        let child = match Child::spawn(&command, &options) {
            Ok(child) => child,
            Err(error) => {
                eprintln!("hopspan: {error}");
                return error.exit_code();
            }
        };
        for note in child.notes() {
            eprintln!("hopspan: {note}");
        }
        eprintln!("child is {}", child.pid());
        loop {
            tokio::select! {
                code = child.wait() => return code,
                signal = signals.next() => match grace {
                    Some(grace) if signal.stops() => {
                        return child.terminate(Duration::from_millis(grace)).await;
                    }
                    _ if signal.is_forwarded() => { child.signal(signal); }
                    _ => eprintln!("kept {}", signal.name()),
                },
            }
        }
    });
    std::process::exit(code.0.into());
}

fn wrapping(command: &[&str]) -> Command {
    let mut wrapped = Command::new(std::env::current_exe().unwrap());
    wrapped
        .args(["--ignored", "--exact", "wrap::inner", "--nocapture", "-q"])
        .env(COMMAND, serde_json::to_string(command).unwrap());
    wrapped
}

fn wrap(command: &[&str]) -> Process {
    Process::start(wrapping(command))
}

async fn child_of(hopspan: &Process) -> u32 {
    let line = hopspan.line("child is ").await;
    let number = line.rsplit(' ').next().unwrap();
    number.parse().unwrap()
}

/// A number that the child wrote after `name=`.
async fn told(hopspan: &Process, name: &str) -> u32 {
    let line = hopspan.line(&format!("{name}=")).await;
    let (_, number) = line.rsplit_once('=').unwrap();
    number.trim().parse().unwrap()
}

async fn gone(what: &str, pid: u32) {
    eventually(what, || stat(pid).is_none()).await;
}

#[tokio::test]
async fn the_child_gets_the_proxy_and_no_https_proxy() {
    let mut command = wrapping(&["sh", "-c", "env; exit 5"]);
    command.env("NO_PROXY", "db.corp");
    let hopspan = Process::start(command);
    assert_eq!(hopspan.exit().await, 5);
    hopspan.line("http_proxy=http://127.0.0.1:8081").await;
    hopspan.line("HTTP_PROXY=http://127.0.0.1:8081").await;
    hopspan.line("NO_PROXY=db.corp,169.254.169.254,").await;
    hopspan.line("no_proxy=db.corp,169.254.169.254,").await;
    hopspan.line("EXTRA=yes").await;
    assert!(!hopspan.output().contains("HTTPS_PROXY="));
    assert!(!hopspan.output().contains("https_proxy="));

    let mut command = wrapping(&["env"]);
    command.env(HTTPS, "1");
    let hopspan = Process::start(command);
    hopspan.line("HTTPS_PROXY=http://127.0.0.1:8081").await;
}

#[tokio::test]
async fn a_proxy_that_is_set_stops_the_start_or_is_kept() {
    let corporate = "http://corp:3128";
    let mut command = wrapping(&["env"]);
    command.env("HTTP_PROXY", corporate);
    let hopspan = Process::start(command);
    assert_eq!(hopspan.exit().await, 2);
    hopspan
        .line("HTTP_PROXY is already set to http://corp:3128")
        .await;

    let mut command = wrapping(&["env"]);
    command.env("HTTP_PROXY", corporate).env(KEEP, "1");
    let hopspan = Process::start(command);
    assert_eq!(hopspan.exit().await, 0);
    hopspan.line("HTTP_PROXY=http://corp:3128").await;
    hopspan.line("not traced").await;
    assert!(!hopspan.output().contains("8081"));
}

#[tokio::test]
async fn the_exit_code_is_the_childs() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    let no_interpreter = folder.path().join("script");
    std::fs::write(&no_interpreter, "#!/nowhere/sh\n").unwrap();
    let bare = folder.path().join("bare");
    std::fs::write(&bare, "exit 9\n").unwrap();
    for path in [&no_interpreter, &bare] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let rows: &[(&[&str], i32, &str)] = &[
        (&["true"], 0, ""),
        (&["sh", "-c", "exit 3"], 3, ""),
        (&["sh", "-c", "exit 255"], 255, ""),
        (&["sh", "-c", "kill -TERM $$"], 143, ""),
        (&["sh", "-c", "kill -KILL $$"], 137, ""),
        (&["hopspan-no-such-program"], 127, "in no directory of PATH"),
        (&["/nowhere/program"], 127, "no such file"),
        (&[plain.to_str().unwrap()], 126, "chmod +x"),
        (&[folder.path().to_str().unwrap()], 126, "a directory"),
        (&[no_interpreter.to_str().unwrap()], 126, "interpreter"),
        (&[bare.to_str().unwrap()], 9, ""),
        (&[], 2, "write it after `--`"),
    ];
    for (command, code, sentence) in rows {
        let hopspan = wrap(command);
        assert_eq!(
            hopspan.exit().await,
            *code,
            "{command:?}: {}",
            hopspan.output()
        );
        if !sentence.is_empty() {
            hopspan.line(sentence).await;
        }
    }
    assert_eq!(rows.len(), 12);
}

#[tokio::test]
async fn the_child_leads_a_group_of_its_own() {
    let hopspan = wrap(&["sleep", "1000"]);
    let child = child_of(&hopspan).await;
    let (_, parent, group) = stat(child).unwrap();
    assert_eq!(parent, hopspan.pid());
    assert_eq!(group, child);
}

#[tokio::test]
async fn signals_reach_the_child_but_not_hangup() {
    let script = r#"
for name in TERM INT QUIT USR1 USR2 HUP; do trap "echo got $name" $name; done
trap 'exit 42' TERM
echo ready=$$
while :; do sleep 0.02; done
"#;
    let hopspan = wrap(&["sh", "-c", script]);
    told(&hopspan, "ready").await;
    let forwarded = [
        (libc::SIGINT, "INT"),
        (libc::SIGQUIT, "QUIT"),
        (libc::SIGUSR1, "USR1"),
        (libc::SIGUSR2, "USR2"),
    ];
    for (number, name) in forwarded {
        hopspan.signal(number);
        hopspan.line(&format!("got {name}")).await;
    }
    hopspan.signal(libc::SIGHUP);
    hopspan.line("kept HUP").await;
    hopspan.signal(libc::SIGTERM);
    assert_eq!(hopspan.exit().await, 42);
    assert!(
        !hopspan.output().contains("got HUP"),
        "{}",
        hopspan.output()
    );
}

/// Forks a child that forks a grandchild and ends: the grandchild is an orphan from then on.
const ORPHANS: &str = r#"
import os, sys, time
count, code = int(sys.argv[1]), int(sys.argv[2])
orphans = []
for _ in range(count):
    read, write = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            os._exit(9)
        os._exit(0)
    os.wait()
    orphans.append(int(os.read(read, 16)))
    os.close(read); os.close(write)
end = time.time() + 20
while any(os.path.exists(f"/proc/{pid}") for pid in orphans):
    if time.time() > end:
        print("left:", [p for p in orphans if os.path.exists(f"/proc/{p}")], flush=True)
        os._exit(99)
    time.sleep(0.005)
os._exit(code)
"#;

#[tokio::test]
async fn orphans_are_reaped_and_their_codes_are_not_taken_for_the_childs() {
    let hopspan = wrap(&["python3", "-c", ORPHANS, "50", "7"]);
    assert_eq!(hopspan.exit().await, 7, "{}", hopspan.output());
}

#[tokio::test]
async fn the_child_does_not_outlive_a_killed_hopspan() {
    let hopspan = wrap(&["sleep", "1000"]);
    let child = child_of(&hopspan).await;
    hopspan.signal(libc::SIGKILL);
    assert_eq!(hopspan.exit().await, 137);
    gone("the child's end", child).await;
}

#[tokio::test]
async fn terminate_waits_for_a_child_that_stops_by_itself() {
    let script = "trap 'exit 4' TERM; echo ready=$$; while :; do sleep 0.02; done";
    let mut command = wrapping(&["sh", "-c", script]);
    command.env(GRACE, "20000");
    let hopspan = Process::start(command);
    told(&hopspan, "ready").await;
    hopspan.signal(libc::SIGTERM);
    assert_eq!(hopspan.exit().await, 4);
}

#[tokio::test]
async fn terminate_kills_the_whole_group_after_the_grace() {
    let script = "trap '' TERM; sleep 1000 & echo grandchild=$!; wait; while :; do sleep 1; done";
    let mut command = wrapping(&["sh", "-c", script]);
    command.env(GRACE, "50");
    let hopspan = Process::start(command);
    let grandchild = told(&hopspan, "grandchild").await;
    let child = child_of(&hopspan).await;
    hopspan.signal(libc::SIGTERM);
    assert_eq!(hopspan.exit().await, 137);
    gone("the child's end", child).await;
    gone("the grandchild's end", grandchild).await;
}

#[tokio::test]
async fn what_a_child_leaves_in_its_group_is_stopped_too() {
    // The shell dies of TERM at once and leaves its background process.
    let script = "sleep 1000 & echo grandchild=$!; wait";
    let mut command = wrapping(&["sh", "-c", script]);
    command.env(GRACE, "20000");
    let hopspan = Process::start(command);
    let grandchild = told(&hopspan, "grandchild").await;
    hopspan.signal(libc::SIGTERM);
    assert_eq!(hopspan.exit().await, 143);
    gone("the grandchild's end", grandchild).await;
}

#[tokio::test]
async fn an_ignored_sigchld_does_not_lose_the_code() {
    // A parent that ignores SIGCHLD hands that on; the kernel would then throw the child's code away.
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("python3");
    command
        .args(["-c", "import os,signal,sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"])
        .arg(exe)
        .args(["--ignored", "--exact", "wrap::inner", "--nocapture", "-q"])
        .env(COMMAND, r#"["sh", "-c", "exit 6"]"#);
    let hopspan = Process::start(command);
    assert_eq!(hopspan.exit().await, 6, "{}", hopspan.output());
}

#[tokio::test]
async fn ancestors_are_told_from_others() {
    let process = Process::start({
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo grandchild=$!; wait"]);
        command
    });
    let grandchild = told(&process, "grandchild").await;
    assert!(is_ancestor(process.pid()));
    assert!(is_ancestor(grandchild));
    assert!(!is_ancestor(1));
    assert!(!is_ancestor(std::process::id()));
    signal_process(grandchild, libc::SIGKILL);
    gone("the grandchild's end", grandchild).await;
    assert!(!is_ancestor(grandchild));
}
