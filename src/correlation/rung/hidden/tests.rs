use super::*;

/// PID, parent, user, whether it changed its user.
fn strangers(rows: &[(Pid, Pid, u32, bool)]) -> Vec<Stranger> {
    let stranger = |&(pid, parent, user, changed): &(Pid, Pid, u32, bool)| Stranger {
        pid,
        parent,
        user,
        changed,
        permitted: 0,
    };
    rows.iter().map(stranger).collect()
}

#[test]
fn the_app_is_told_from_others() {
    const PAUSE: (Pid, Pid, u32, bool) = (1, 0, 65535, false);
    const SHELL: (Pid, Pid, u32, bool) = (50, 0, 4242, false);
    const OURS: u32 = 65532;
    type Row = (
        &'static str,
        &'static [u32],
        &'static [(Pid, Pid, u32, bool)],
        Option<Pid>,
    );
    let rows: [Row; 9] = [
        ("nobody is hidden", &[1000], &[], None),
        ("only others are", &[OURS], &[PAUSE, SHELL], None),
        (
            "another user's",
            &[1000],
            &[PAUSE, (7, 0, 1000, false), (8, 7, 1000, false)],
            Some(7),
        ),
        (
            "one user's, with capabilities",
            &[OURS],
            &[PAUSE, SHELL, (60, 0, OURS, false)],
            Some(60),
        ),
        (
            "root's workers are ours",
            &[0],
            &[PAUSE, (7, 0, 0, false), (8, 7, OURS, true)],
            Some(8),
        ),
        (
            "and their children",
            &[0],
            &[(9, 8, OURS, true), (8, 7, 1000, true), (7, 0, 0, false)],
            Some(9),
        ),
        (
            "somebody of our user beside root's",
            &[0],
            &[(7, 0, 0, false), (50, 0, OURS, false)],
            Some(7),
        ),
        (
            "root that became another",
            &[0],
            &[PAUSE, SHELL, (7, 0, 33, true)],
            Some(7),
        ),
        ("root elsewhere", &[0], &[PAUSE, SHELL], None),
    ];
    for (name, makers, hidden, wanted) in rows {
        let hidden = strangers(hidden);
        let found = suspect(makers, &hidden, OURS).map(|stranger| stranger.pid);
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn what_everybody_may_read_is_read() {
    let own = Stranger::read(std::process::id()).unwrap();
    assert_eq!(own.user, process::effective_uid());
    assert!(!own.changed, "{own:?}");
    assert_eq!(own.parent, std::os::unix::process::parent_id());
    let init = Stranger::read(1).unwrap();
    assert_eq!((init.pid, init.parent), (1, 0));
    assert_eq!(Stranger::read(0), None);
}
