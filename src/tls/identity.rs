//! Who a peer is by its certificate (RFC 5280): subject and alternative names.
//!
//! Whether the certificate is to be believed was decided in the handshake.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Names of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The distinguished name, as `CN=frontend, O=Shop`.
    pub subject: Arc<str>,
    /// Alternative names: DNS names, URIs (SPIFFE), addresses of mail and IP.
    pub names: Arc<[String]>,
}

impl Identity {
    /// The names in a certificate. What cannot be read has no names.
    pub fn of(certificate: &CertificateDer<'_>) -> Identity {
        let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
            return Identity::default();
        };
        let names = parsed
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|names| names.value.general_names.iter().filter_map(name).collect())
            .unwrap_or_default();
        Identity {
            subject: Arc::from(parsed.subject().to_string()),
            names,
        }
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    Some(match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
            (*text).to_owned()
        }
        GeneralName::IPAddress(bytes) => ip(bytes)?.to_string(),
        _ => return None,
    })
}

fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    let v4: Result<[u8; 4], _> = bytes.try_into();
    let v6: Result<[u8; 16], _> = bytes.try_into();
    v4.map(Into::into).or(v6.map(Into::into)).ok()
}

/// When a certificate expires, Unix time in seconds.
pub(super) fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// A rule for identities: `san:NAME` for an alternative name, `subject:NAME` for the distinguished name; one `*` stands
/// for anything.
#[derive(Clone, PartialEq, Eq)]
pub struct Rule {
    subject: bool,
    before: String,
    /// What follows the `*`, where there is one.
    after: Option<String>,
}

impl Rule {
    /// Reads a rule; `None` where the text is none.
    pub fn parse(text: &str) -> Option<Rule> {
        let (subject, pattern) = match text.split_once(':')? {
            ("san", pattern) => (false, pattern),
            ("subject", pattern) => (true, pattern),
            _ => return None,
        };
        let (before, after) = match pattern.split_once('*') {
            Some((before, after)) => (before, Some(after.to_owned())),
            None => (pattern, None),
        };
        let several = after.as_ref().is_some_and(|after| after.contains('*'));
        (!pattern.is_empty() && !several).then(|| Rule {
            subject,
            before: before.to_owned(),
            after,
        })
    }

    /// Whether it is about this peer.
    pub fn fits(&self, identity: &Identity) -> bool {
        match self.subject {
            true => self.matches(&identity.subject),
            false => identity.names.iter().any(|name| self.matches(name)),
        }
    }

    fn matches(&self, name: &str) -> bool {
        let Some(after) = &self.after else {
            return name == self.before;
        };
        name.strip_prefix(&*self.before)
            .is_some_and(|rest| rest.ends_with(&**after))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.subject { "subject" } else { "san" };
        write!(f, "{kind}:{}", self.before)?;
        match &self.after {
            Some(after) => write!(f, "*{after}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
