use super::super::report::{Findings, Group};
use super::*;
use crate::telemetry::Code;

fn report() -> Report {
    let mut findings = Findings::default();
    findings.add(
        Group::Joins,
        Code::TokenOff,
        Mark::Warn,
        "token: off: why",
        "do this",
    );
    findings.ok(Group::App, Code::AppRefuses, "the app is there");
    findings.add(
        Group::Joins,
        Code::ThreadNoBtf,
        Mark::Note,
        "thread: off",
        "",
    );
    findings.add(
        Group::Export,
        Code::CollectorUnreachable,
        Mark::Error,
        "gone",
        "mend it",
    );
    findings.report("the sidecar at 127.0.0.1:9465, generation 1".to_owned())
}

#[test]
fn the_table_is_by_group_with_signs_and_words() {
    let golden = format!(
        "hopspan doctor {}: the sidecar at 127.0.0.1:9465, generation 1\n",
        env!("CARGO_PKG_VERSION")
    ) + "
app
  ✓ ok     HOP104  the app is there

joins
  ! warn   HOP151  token: off: why
                   -> do this
  · note   HOP142  thread: off

export
  ✗ error  HOP172  gone
                   -> mend it

1 error, 1 warning, 1 note; read first: hopspan explain HOP172
";
    assert_eq!(table(&report(), false), golden);
}

#[test]
fn short_is_what_is_wrong() {
    let golden = "\
warn HOP151 joins: token: off: why -> do this
error HOP172 export: gone -> mend it
1 error, 1 warning, 1 note; read first: hopspan explain HOP172
";
    assert_eq!(short(&report(), false), golden);
    let fine = Findings::default().report(String::new());
    assert_eq!(
        short(&fine, false),
        "0 errors, 0 warnings, 0 notes: nothing to mend\n"
    );
}

#[test]
fn colour_adds_nothing_but_itself() {
    let mut plain = table(&report(), true);
    for code in ["32", "2", "33", "1;31", "0"] {
        plain = plain.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(plain, table(&report(), false));
    assert_ne!(table(&report(), true), plain);
}
