//! The `hopspan` command: argv to a running sidecar or viewer. All of it lives in the library and in `cli`.

fn main() {}
