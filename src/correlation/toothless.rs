//! Rules turned off, to show that what looks for wrong parents finds them then. Compiled into tests only: no feature, no
//! setting and no variable can turn a rule off in a program that is not the library's own test program.

use std::sync::LazyLock;

/// Names of rules, separated by commas, or `all`.
const VARIABLE: &str = "HOPSPAN_RULES_OFF";

/// Whether a rule is off in this run of the test program.
pub(super) fn is_off(rule: &str) -> bool {
    static OFF: LazyLock<String> = LazyLock::new(|| std::env::var(VARIABLE).unwrap_or_default());
    OFF.split(',').any(|off| off == "all" || off == rule)
}
