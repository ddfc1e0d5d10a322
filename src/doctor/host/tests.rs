use super::*;

/// A folder that looks like `/` of another host.
fn other_host(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn a_host_is_read_from_its_files() {
    let root = other_host(&[
        ("proc/sys/kernel/osrelease", "5.15.0-generic\n"),
        ("proc/sys/kernel/yama/ptrace_scope", "1\n"),
        (
            "proc/self/status",
            "Name:\thopspan\nUid:\t1000\t1001\t1000\t1000\nCapEff:\t000000c000000000\n",
        ),
    ]);
    let host = look(root.path());
    assert_eq!(
        (&*host.kernel, host.btf, host.yama, host.user),
        ("5.15.0-generic", false, Some(1), 1001)
    );
    assert_eq!(host.capabilities, ["CAP_PERFMON", "CAP_BPF"]);
}

#[test]
fn nothing_readable_is_nothing_known() {
    let host = look(other_host(&[]).path());
    assert_eq!(
        (host.btf, host.yama, host.capabilities.len()),
        (false, None, 0)
    );
}

#[test]
fn this_host_is_read() {
    let host = look(Path::new("/"));
    assert!(
        host.kernel.starts_with(|c: char| c.is_ascii_digit()),
        "{host:?}"
    );
}

#[test]
fn a_sub_path_mount_is_known_by_its_source() {
    let root = other_host(&[]);
    let file = root.path().join("hopspan.yaml");
    fs::write(&file, "").unwrap();
    let line = |source: &str| {
        format!(
            "36 25 8:1 {source} {} ro,relatime - ext4 /dev/sda1 rw\n",
            file.display()
        )
    };
    let mounts = root.path().join("proc/self/mountinfo");
    fs::create_dir_all(mounts.parent().unwrap()).unwrap();
    fs::write(&mounts, line("/pods/1/volume-subpaths/config/hopspan/0")).unwrap();
    assert!(is_sub_path(root.path(), &file));
    assert!(!is_sub_path(root.path(), &root.path().join("other.yaml")));
    // A folder's own mount, or Docker's bind of one file, may change.
    fs::write(&mounts, line("/home/me/hopspan.yaml")).unwrap();
    assert!(!is_sub_path(root.path(), &file));
}
