//! Asks the kernel about sockets: NETLINK_SOCK_DIAG (`man 7 sock_diag`). TCP by both addresses; [`unix`] has the others.
//!
//! Needs no privilege, and sees the network namespace that hopspan is in. One look-up takes about 3 us; the answer is
//! ready when the question has been sent, so nothing here waits. Where no connection has the two addresses, the kernel
//! answers with the *listener*: that is told apart here.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

mod unix;

pub(super) use unix::UnixAnswer;

/// `TCP_ESTABLISHED` of the kernel's `tcp_states.h`.
pub(super) const ESTABLISHED: u8 = 1;
/// `TCP_LISTEN`.
pub(super) const LISTEN: u8 = 10;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// NLM_F_REQUEST.
const REQUEST: u16 = 1;
/// NLM_F_ROOT | NLM_F_MATCH.
const DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `INET_DIAG_INFO`, which carries `struct tcp_info`.
const INFO: u16 = 2;
/// `struct nlmsghdr`.
const HEAD: usize = 16;
/// nlmsghdr + inet_diag_req_v2.
const QUESTION: usize = HEAD + 56;
/// `struct inet_diag_msg`.
const MESSAGE: usize = 72;

/// What the kernel says of one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// A number of `tcp_states.h`.
    pub(super) state: u8,
    /// Its own port.
    pub(super) port: u16,
    /// The peer's port; 0 for a listener.
    pub(super) peer_port: u16,
    /// Its own address, as in the message (four words; IPv4 in the first).
    pub(super) address: [u8; 16],
    /// AF_INET or AF_INET6.
    pub(super) family: u8,
    /// For its whole life.
    pub(super) cookie: u64,
    /// Unread bytes; for a listener, connections that wait.
    pub(super) receive_queue: u32,
    /// For a listener, the limit of waiting connections.
    pub(super) send_queue: u32,
    /// The user that made it.
    pub(super) uid: u32,
    /// 0 where no process holds it.
    pub(super) inode: u32,
    /// Bytes received in its life, where asked for.
    pub(super) received: Option<u64>,
}

/// A netlink socket to ask with.
pub(super) struct Diag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diag {
    /// Opens the netlink socket.
    pub(super) fn new() -> io::Result<Diag> {
        // SAFETY: plain socket(2) with constant arguments.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::NETLINK_SOCK_DIAG,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Diag {
            // SAFETY: `fd` was just returned by socket(2) and is owned by nobody else.
            socket: unsafe { OwnedFd::from_raw_fd(fd) },
            sequence: 0,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// The connection whose own address is `local` and whose peer is `remote`; `None` where there is none.
    ///
    /// With `info`, also what `struct tcp_info` says. Addresses must not be IPv4-mapped: the IPv4 question finds both
    /// kinds of socket.
    pub(super) fn connection(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        info: bool,
    ) -> io::Result<Option<Answer>> {
        let mut question = self.question(0, family(local), u32::MAX);
        if info {
            set(&mut question, 18, &[1 << (INFO - 1)]);
        }
        set(&mut question, 24, &local.port().to_be_bytes());
        set(&mut question, 26, &remote.port().to_be_bytes());
        set(&mut question, 28, &octets(local.ip()));
        set(&mut question, 44, &octets(remote.ip()));
        self.send(&question)?;
        let mut found = None;
        let note = |message: &[u8]| parse(message).map(|answer| found = Some(answer));
        let outcome = self.receive(note, true);
        match outcome {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            other => other?,
        }
        let exact = |answer: &Answer| {
            answer.state != LISTEN
                && answer.port == local.port()
                && answer.peer_port == remote.port()
        };
        Ok(found.filter(exact))
    }

    /// All listeners of one family (AF_INET or AF_INET6).
    pub(super) fn listeners(&mut self, family: u8) -> io::Result<Vec<Answer>> {
        let question = self.question(DUMP, family, 1 << LISTEN);
        self.send(&question)?;
        let mut found = Vec::new();
        self.receive(|message| parse(message).map(|a| found.push(a)), false)?;
        Ok(found)
    }

    fn question(&mut self, flags: u16, family: u8, states: u32) -> [u8; QUESTION] {
        let mut question = self.head(flags);
        set(&mut question, 16, &[family, libc::IPPROTO_TCP as u8]);
        set(&mut question, 20, &states.to_ne_bytes());
        // INET_DIAG_NOCOOKIE: any socket.
        set(&mut question, 64, &[0xff; 8]);
        question
    }

    /// A question with its `struct nlmsghdr`.
    fn head<const N: usize>(&mut self, flags: u16) -> [u8; N] {
        self.sequence = self.sequence.wrapping_add(1);
        let mut question = [0; N];
        set(&mut question, 0, &(N as u32).to_ne_bytes());
        set(&mut question, 4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        set(&mut question, 6, &(REQUEST | flags).to_ne_bytes());
        set(&mut question, 8, &self.sequence.to_ne_bytes());
        question
    }

    fn send(&mut self, question: &[u8]) -> io::Result<()> {
        // SAFETY: the pointer and length describe `question`, which outlives the call.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                question.as_ptr().cast(),
                question.len(),
                0,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Hands over the messages of the answer; `one` where a single message is the whole of it.
    fn receive(
        &mut self,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
        one: bool,
    ) -> io::Result<()> {
        loop {
            // SAFETY: the pointer and length describe `self.buffer`, which is writable and not otherwise borrowed.
            let length = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if length < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut rest = self.buffer.get(..length as usize).unwrap_or_default();
            while let Some(message_length) = number::<4>(rest, 0).map(u32::from_ne_bytes) {
                let Some(message) = rest.get(..message_length as usize) else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                let kind = number::<2>(message, 4).map(u16::from_ne_bytes);
                // Left over from a question that failed half-way.
                let stale = number::<4>(message, 8).map(u32::from_ne_bytes) != Some(self.sequence);
                match kind {
                    _ if stale => {}
                    Some(NLMSG_DONE) => return Ok(()),
                    Some(NLMSG_ERROR) => {
                        let code = number::<4>(message, 16).map_or(0, i32::from_ne_bytes);
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    Some(SOCK_DIAG_BY_FAMILY) => {
                        each(message.get(HEAD..).unwrap_or_default())?;
                        if one {
                            return Ok(());
                        }
                    }
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                }
                let next = (message_length as usize).next_multiple_of(4).max(16);
                rest = rest.get(next..).unwrap_or_default();
            }
        }
    }
}

fn family(address: SocketAddr) -> u8 {
    match address {
        SocketAddr::V4(_) => libc::AF_INET as u8,
        SocketAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    let mut octets = [0; 16];
    match address {
        IpAddr::V4(address) => set(&mut octets, 0, &address.octets()),
        IpAddr::V6(address) => octets = address.octets(),
    }
    octets
}

/// Writes `value` at `at`; what does not fit is left out, which no caller does.
fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(target) = bytes.get_mut(at..at + value.len()) {
        target.copy_from_slice(value);
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Reads `struct inet_diag_msg` and the attributes that follow it.
fn parse(message: &[u8]) -> io::Result<Answer> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    if message.len() < MESSAGE {
        return Err(invalid());
    }
    let word = |at| number(message, at).map_or(0, u32::from_ne_bytes);
    let port = |at| number(message, at).map_or(0, u16::from_be_bytes);
    let mut answer = Answer {
        family: message.first().copied().ok_or_else(invalid)?,
        state: message.get(1).copied().ok_or_else(invalid)?,
        port: port(4),
        peer_port: port(6),
        address: number(message, 8).ok_or_else(invalid)?,
        cookie: number(message, 44).map_or(0, u64::from_ne_bytes),
        receive_queue: word(56),
        send_queue: word(60),
        uid: word(64),
        inode: word(68),
        received: None,
    };
    each_attribute(message.get(MESSAGE..).unwrap_or_default(), |kind, value| {
        if kind == INFO {
            // struct tcp_info: tcpi_bytes_received.
            answer.received = number(value, 128).map(u64::from_ne_bytes);
        }
    });
    Ok(answer)
}

/// Calls `each` with kind and value of the attributes (`struct nlattr`) that end a message.
fn each_attribute(mut attributes: &[u8], mut each: impl FnMut(u16, &[u8])) {
    while let (Some(length), Some(kind)) = (number::<2>(attributes, 0), number::<2>(attributes, 2))
    {
        let length = u16::from_ne_bytes(length) as usize;
        let Some(value) = attributes.get(4..length) else {
            break;
        };
        each(u16::from_ne_bytes(kind), value);
        attributes = attributes
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
