//! The permissions of a file, as chmod(1) takes them in octal: `0660`.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::advice::Advice;

/// Permissions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(u32);

impl FileMode {
    /// Owner and group may read and write: for a socket, connect.
    pub const GROUP: FileMode = FileMode(0o660);

    /// The nine permission bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileMode, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        let octal = digits.bytes().all(|digit| digit.is_ascii_digit());
        let bits = u32::from_str_radix(digits, 8).ok().filter(|_| octal);
        let known = bits.filter(|bits| *bits <= 0o777).map(FileMode);
        known.ok_or_else(|| {
            D::Error::custom(Advice::new(
                format!("`{text}` is not a file mode"),
                "write three octal digits, as in 0660: owner, group, others; who may write may connect",
            ))
        })
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:04o}", self.0))
    }
}
