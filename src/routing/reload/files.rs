//! The files that a config names, by their content: a certificate that was renewed is a change of the config.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use super::Overlay;
use crate::config::{Config, Source};

/// Files and what was in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files(Vec<(PathBuf, Option<u64>)>);

impl Files {
    /// Those of a config as it is now; to be taken before the config is compiled, so that no later change is missed.
    pub(super) fn named_by(source: &Source, overlay: &Overlay) -> Files {
        let Some(mut config) = Config::parse_leniently(source).0 else {
            return Files::default();
        };
        overlay(&mut config);
        let files = config.tls_files().into_iter();
        Files(files.map(|path| (path.to_owned(), hash(path))).collect())
    }

    /// Whether one has another content now.
    pub(super) fn changed(&self) -> bool {
        self.0.iter().any(|(path, known)| hash(path) != *known)
    }
}

/// What a config is made of.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) file: Vec<u8>,
    pub(super) named: Files,
}

/// `None` for a file that cannot be read.
fn hash(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}
