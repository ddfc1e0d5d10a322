//! What a client was answered, from the bytes it got.

use super::strict::latin;

/// One answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
}

impl Answer {
    /// Whether hopspan says that it answered itself, why, and that the connection ends.
    pub(crate) fn is_refusal(&self) -> bool {
        let head = self.head.to_ascii_lowercase();
        head.contains("\r\nproxy-status: hopspan; error=")
            && head.contains("\r\nconnection: close\r\n")
    }
}

/// All answers in `bytes`; interim ones are left out.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Answer>, String> {
    let mut text = latin(bytes);
    let mut answers = Vec::new();
    while !text.is_empty() {
        let end = text
            .find("\r\n\r\n")
            .ok_or(format!("half an answer: {text:?}"))?
            + 4;
        let head: String = text.drain(..end).collect();
        // An answer to HTTP/1.0 says so.
        let version = head.strip_prefix("HTTP/1.0 ");
        let status = version.or(head.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|rest| rest[..3].parse().ok());
        let status: u16 = status.ok_or(format!("no answer: {head:?}"))?;
        if status / 100 == 1 {
            continue;
        }
        let length = head.to_ascii_lowercase();
        let length = length.split("\r\ncontent-length: ").nth(1);
        let length = length.and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        let length = length.ok_or(format!("no length: {head:?}"))?;
        if text.len() < length {
            return Err(format!("half a body: {head:?}{text:?}"));
        }
        text.drain(..length);
        answers.push(Answer { status, head });
    }
    Ok(answers)
}
