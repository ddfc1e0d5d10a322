//! The Python shim (`deploy/python/shim`) for a wrapped command: unpacked for its lifetime, and found by `PYTHONPATH`.
//!
//! A program that is no Python does not notice. Nothing is installed, and no `.pth` file is written.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Every file of the shim, by its path in the folder.
const FILES: &[(&str, &str)] = &[
    (
        "sitecustomize.py",
        include_str!("../../deploy/python/shim/sitecustomize.py"),
    ),
    (
        "hopspan_shim/__init__.py",
        include_str!("../../deploy/python/shim/hopspan_shim/__init__.py"),
    ),
    (
        "hopspan_shim/carry.py",
        include_str!("../../deploy/python/shim/hopspan_shim/carry.py"),
    ),
    (
        "hopspan_shim/cause.py",
        include_str!("../../deploy/python/shim/hopspan_shim/cause.py"),
    ),
    (
        "hopspan_shim/hooks.py",
        include_str!("../../deploy/python/shim/hopspan_shim/hooks.py"),
    ),
    (
        "hopspan_shim/inbound.py",
        include_str!("../../deploy/python/shim/hopspan_shim/inbound.py"),
    ),
    (
        "hopspan_shim/outbound.py",
        include_str!("../../deploy/python/shim/hopspan_shim/outbound.py"),
    ),
];

/// The shim in a folder of its own, which is removed with this value. Keep it for as long as the command runs.
#[derive(Debug)]
pub struct Shim {
    folder: PathBuf,
}

impl Shim {
    /// Unpacks it under the system's folder for temporary files.
    ///
    /// # Errors
    /// What the file system says: none is writable in a container with a read-only root and no `/tmp`.
    pub fn unpack() -> io::Result<Shim> {
        Shim::unpack_in(&std::env::temp_dir())
    }

    fn unpack_in(parent: &Path) -> io::Result<Shim> {
        let shim = Shim {
            folder: new_folder(parent)?,
        };
        for (name, text) in FILES {
            let path = shim.folder.join(name);
            if let Some(package) = path.parent().filter(|package| **package != shim.folder) {
                fs::create_dir_all(package)?;
                readable(package, 0o755)?;
            }
            fs::write(&path, text)?;
            readable(&path, 0o644)?;
        }
        // Only now, since nobody but the owner may write in it, may others read: the command may take another user
        // (gosu, setpriv), and a shim that it cannot read would be none, silently.
        readable(&shim.folder, 0o755)?;
        Ok(shim)
    }

    /// The folder for `PYTHONPATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Variables for the command: `PYTHONPATH` with the shim in front of what it is now, and where the token may go.
    pub fn environment(
        &self,
        outbound: SocketAddr,
        get: impl Fn(&str) -> Option<OsString>,
    ) -> Vec<(OsString, OsString)> {
        let mut path = self.folder.clone().into_os_string();
        if let Some(before) = get("PYTHONPATH").filter(|before| !before.is_empty()) {
            path.push(":");
            path.push(before);
        }
        let outbound = outbound.to_string();
        vec![
            ("PYTHONPATH".into(), path),
            ("HOPSPAN_OUTBOUND".into(), outbound.into()),
        ]
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::debug!(folder = %self.folder.display(), %error, "the shim's folder is left");
        }
    }
}

/// A folder that did not exist before: `mkdir` follows no link and fails where somebody else was first.
fn new_folder(parent: &Path) -> io::Result<PathBuf> {
    for _ in 0..16 {
        let folder = parent.join(format!("hopspan-shim-{:016x}", fastrand::u64(..)));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whatever the umask says.
fn readable(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn it_is_whole_and_gone_with_its_value() {
        let parent = tempfile::tempdir().unwrap();
        let shim = Shim::unpack_in(parent.path()).unwrap();
        assert_eq!(mode(shim.folder()), 0o755);
        for (name, text) in FILES {
            let path = shim.folder().join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), *text);
            assert_eq!(mode(&path), 0o644);
        }
        // As Python does.
        fs::create_dir(shim.folder().join("__pycache__")).unwrap();
        drop(shim);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_file_of_the_folder_is_forgotten() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/python/shim");
        let mut found = Vec::new();
        for folder in ["", "hopspan_shim"] {
            for entry in fs::read_dir(source.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|kind| kind == "py") {
                    let name = path.strip_prefix(&source).unwrap();
                    found.push(name.to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        let mut embedded: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        embedded.sort_unstable();
        assert_eq!(embedded, found);
    }

    #[test]
    fn it_goes_in_front_of_what_is_there() {
        let parent = tempfile::tempdir().unwrap();
        let shim = Shim::unpack_in(parent.path()).unwrap();
        let folder = shim.folder().to_str().unwrap();
        let outbound = "127.0.0.1:8081".parse().unwrap();
        for (before, expected) in [
            (None, folder.to_owned()),
            (Some(""), folder.to_owned()),
            (Some("/a:/b"), format!("{folder}:/a:/b")),
        ] {
            let set = shim.environment(outbound, |_| before.map(OsString::from));
            let rows = [
                ("PYTHONPATH", expected.as_str()),
                ("HOPSPAN_OUTBOUND", "127.0.0.1:8081"),
            ];
            let rows = rows.map(|(name, value)| (name.into(), value.into()));
            assert_eq!(set, rows);
        }
    }

    #[test]
    fn a_file_system_that_refuses_is_an_error() {
        assert!(Shim::unpack_in(Path::new("/proc")).is_err());
    }
}
