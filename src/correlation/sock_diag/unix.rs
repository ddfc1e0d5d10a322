//! Asks the kernel about one unix stream socket of this process: `struct unix_diag_req` and `struct unix_diag_msg`.
//!
//! The other end has no name that could be asked for, but for its inode: 0 until accept(2) and again after close(2), as
//! with TCP. It does not list sockets: `/proc/net/unix` does.

use std::io;

use super::{Diag, HEAD, each_attribute, number, set};

/// nlmsghdr + unix_diag_req.
const QUESTION: usize = HEAD + 24;
/// `struct unix_diag_msg`.
const MESSAGE: usize = 16;
/// `UNIX_DIAG_PEER`, `UNIX_DIAG_RQLEN`, `UNIX_DIAG_SHUTDOWN`.
const PEER: u16 = 2;
const LENGTHS: u16 = 4;
const SHUT: u16 = 6;
/// `UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN`.
const SHOW: u32 = 4 | 16;

/// What the kernel says of a unix socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlation) struct UnixAnswer {
    /// A number of `tcp_states.h`.
    pub(in crate::correlation) state: u8,
    /// The inode of the other end; 0 where no process holds it.
    pub(in crate::correlation) peer: u32,
    /// Memory of what was sent and the other end has not read to its end: 0 when it has read all.
    pub(in crate::correlation) unread_by_peer: u32,
    /// `RCV_SHUTDOWN` (1) and `SEND_SHUTDOWN` (2), whichever end asked for it.
    pub(in crate::correlation) shut: u8,
}

impl Diag {
    /// The unix socket with this inode and this cookie; `None` where it is gone.
    pub(in crate::correlation) fn unix(
        &mut self,
        inode: u32,
        cookie: u64,
    ) -> io::Result<Option<UnixAnswer>> {
        let mut question: [u8; QUESTION] = self.head(0);
        set(&mut question, HEAD, &[libc::AF_UNIX as u8]);
        set(&mut question, HEAD + 4, &u32::MAX.to_ne_bytes());
        set(&mut question, HEAD + 8, &inode.to_ne_bytes());
        set(&mut question, HEAD + 12, &SHOW.to_ne_bytes());
        // Two words, the lower one first.
        set(&mut question, HEAD + 16, &(cookie as u32).to_ne_bytes());
        let upper = (cookie >> 32) as u32;
        set(&mut question, HEAD + 20, &upper.to_ne_bytes());
        self.send(&question)?;
        let mut found = None;
        let note = |message: &[u8]| parse(message).map(|answer| found = Some(answer));
        match self.receive(note, true) {
            // Gone, or another socket has its inode's number.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {
                Ok(None)
            }
            outcome => outcome.map(|()| found),
        }
    }

    /// Whether there is a part of the kernel that answers such questions (the module unix_diag).
    pub(in crate::correlation) fn knows_unix(&mut self) -> bool {
        let mut question: [u8; QUESTION] = self.head(0);
        set(&mut question, HEAD, &[libc::AF_UNIX as u8]);
        // No inode: that part says so. Without it nobody is found to ask.
        let asked = self.send(&question);
        let answered = asked.and_then(|()| self.receive(|_| Ok(()), true));
        answered.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
    }
}

fn parse(message: &[u8]) -> io::Result<UnixAnswer> {
    let state = number::<1>(message, 2).filter(|_| message.len() >= MESSAGE);
    let [state] = state.ok_or(io::ErrorKind::InvalidData)?;
    let (mut peer, mut unread, mut shut) = (None, None, None);
    each_attribute(message.get(MESSAGE..).unwrap_or_default(), |kind, value| {
        match kind {
            PEER => peer = number(value, 0).map(u32::from_ne_bytes),
            // Of a connection: unread bytes, and memory of what the other end has not read.
            LENGTHS => unread = number(value, 4).map(u32::from_ne_bytes),
            SHUT => shut = number::<1>(value, 0).map(|[shut]| shut),
            _ => {}
        }
    });
    match (unread, shut) {
        (Some(unread_by_peer), Some(shut)) => Ok(UnixAnswer {
            state,
            peer: peer.unwrap_or(0),
            unread_by_peer,
            shut,
        }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
