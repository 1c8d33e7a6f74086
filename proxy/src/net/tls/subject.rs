//! Whom a client's certificate names, as text by RFC 4514, so that no value can pass for another attribute.

use rustls::pki_types::CertificateDer;
use sluice_core::time::Wall;
use std::fmt::Write;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// Bytes of a subject as text.
pub const SUBJECT_BYTES_MAX: usize = 1_024;

/// Why a client's certificate, though signed as it should be, names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It cannot be read.
    #[error("the client's certificate cannot be read")]
    Unreadable,
    /// Its subject is too long.
    #[error(
        "the subject of the client's certificate has {actual} bytes as text, the limit is {limit}"
    )]
    TooLong {
        /// Bytes at most.
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// It has expired since the session began that is resumed.
    #[error("the client's certificate expired at {not_after} (unix seconds)")]
    Expired {
        /// Unix seconds.
        not_after: i64,
    },
}

/// The subject of a certificate that the library has checked, now or when a resumed session began.
pub(super) fn of(certificate: &CertificateDer<'_>, now: Wall) -> Result<Box<str>, SubjectError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| SubjectError::Unreadable)?;
    let not_after = parsed.validity.not_after.timestamp();
    if super::certificates::unix(now) > not_after {
        return Err(SubjectError::Expired { not_after });
    }
    // RFC 4514, 2.1: the last one first.
    let parts: Vec<_> = parsed.subject.iter().collect();
    let mut text = String::new();
    for (index, part) in parts.into_iter().rev().enumerate() {
        for (at, attribute) in part.iter().enumerate() {
            match (index, at) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            write_attribute(&mut text, attribute);
        }
    }
    match text.len() {
        actual if actual > SUBJECT_BYTES_MAX => Err(SubjectError::TooLong {
            limit: SUBJECT_BYTES_MAX,
            actual,
        }),
        _ => Ok(text.into()),
    }
}

/// RFC 4514, 3: types that have a name.
fn short_name(of: &Oid<'_>) -> Option<&'static str> {
    let dotted = of.to_id_string();
    Some(match dotted.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        _ => return None,
    })
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let name = short_name(attribute.attr_type());
    // Writing to a String cannot fail.
    match (name, attribute.as_str()) {
        (Some(name), Ok(value)) => {
            let _ = write!(text, "{name}=");
            escape(text, value);
        }
        (name, _) => {
            let dotted = attribute.attr_type().to_id_string();
            let _ = write!(text, "{}=#", name.unwrap_or(&dotted));
            for byte in attribute.attr_value().data {
                let _ = write!(text, "{byte:02x}");
            }
        }
    }
}

/// RFC 4514, 2.4. Control characters are escaped too: a subject may end up in a header or a log.
fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => text.extend(['\\', character]),
            '#' if at == 0 => text.push_str("\\#"),
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            control if control.is_control() => {
                let mut utf8 = [0; 4];
                for byte in control.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_values_cannot_forge_attributes() {
        for (value, expected) in [
            ("sdk-7", "sdk-7"),
            ("a,OU=admin", "a\\,OU\\=admin"),
            ("a+CN=b", "a\\+CN\\=b"),
            ("#1", "\\#1"),
            (" a b ", "\\ a b\\ "),
            (" ", "\\ "),
            ("a\r\nx: y", "a\\0D\\0Ax: y"),
            ("Grün", "Grün"),
        ] {
            let mut text = String::new();
            escape(&mut text, value);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_client_certificate_that_expired_since_names_nobody() {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let not_after = 1_893_456_000;
        let of = |secs: i64| {
            let secs = u64::try_from(secs).unwrap();
            of(certificate.der(), Wall { secs, nanos: 0 })
        };
        assert_eq!(of(not_after).as_deref(), Ok("CN=rcgen self signed cert"));
        assert_eq!(of(not_after + 1), Err(SubjectError::Expired { not_after }));
    }
}
