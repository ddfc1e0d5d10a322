//! A listener on a unix socket (unix(7)): its file, with the mode that says who may connect; a file that nobody listens on
//! any more is taken over; the file goes when the listener does.

use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::time::Instant;

use super::BACKLOG;

/// Another hopspan that starts here at the same time is done within this.
const TURN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// The file of a socket that is ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another process may have taken the name since.
    is: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).ok() == Some(self.is) {
            // Gone or not ours to remove: either way nothing is left to do.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path` with the permissions `mode`.
///
/// # Errors
/// `AddrInUse` where somebody listens there already; what is no socket is never touched.
pub(super) async fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    // Two that find the same stale file would otherwise remove each other's.
    let _turn = turn(path).await;
    make_room(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile {
        path: path.to_owned(),
        is: identity(path)?,
    };
    // Nobody can connect before listen(2), so nobody does under another mode.
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// The folder's lock, until dropped; after [`TURN`], or where it cannot be had, without.
async fn turn(path: &Path) -> Option<File> {
    let folder = File::open(path.parent()?).ok()?;
    let deadline = Instant::now() + TURN;
    loop {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => return None,
        }
    }
}

/// Removes a socket's file on which nobody listens.
fn make_room(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            let why = "there is a file that is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue answers at once, too.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = std::fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener as StdListener, UnixStream};

    use super::*;

    /// What a process that was killed leaves behind. It never listened: another test that forks just now may keep the
    /// socket open.
    fn left_behind(path: &Path) {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(path).unwrap()).unwrap();
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_stale_file_is_taken_over_and_ours_goes_with_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hopspan.sock");
        left_behind(&path);
        let (listener, file) = listen(&path, 0o640).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let client = UnixStream::connect(&path).unwrap();
        listener.accept().await.unwrap();
        drop((file, client));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_somebody_s_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hopspan.sock");
        let owner = StdListener::bind(&path).unwrap();
        let taken = listen(&path, 0o660).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop(owner);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "notes").unwrap();
        listen(&path, 0o660).await.unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    }

    #[tokio::test]
    async fn a_name_that_another_took_over_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hopspan.sock");
        let (listener, file) = listen(&path, 0o660).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let (_other, _its) = listen(&path, 0o660).await.unwrap();
        drop((listener, file));
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn of_many_that_start_at_once_one_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hopspan.sock");
        left_behind(&path);
        let starts = (0..16).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { listen(&path, 0o660).await })
        });
        let starts: Vec<_> = starts.collect();
        let mut listening = Vec::new();
        for start in starts {
            listening.extend(start.await.unwrap().ok());
        }
        assert_eq!(listening.len(), 1);
        UnixStream::connect(&path).unwrap();
        listening[0].0.accept().await.unwrap();
    }
}
