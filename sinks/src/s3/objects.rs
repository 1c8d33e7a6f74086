//! Objects that are read back: those under a prefix, and each of them whole. For `sluice replay`.

use super::S3Settings;
use super::address::encoded;
use super::bucket::Bucket;
use crate::aws::CallFailure;
use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};
use bytes::Bytes;

/// Bytes of an object that is read, packed: a segment has at most 50 MB of lines before it is.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;

/// Pages of a listing, of a thousand keys each.
const PAGES_MAX: usize = 1_000;

/// A key, and how many bytes its object has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The bytes.
    pub bytes: u64,
}

/// A bucket's objects.
pub struct Objects {
    bucket: Bucket,
}

/// One page of a listing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    listed: Vec<Listed>,
    next: Option<String>,
}

impl Objects {
    /// Finds region, endpoint and credentials as an output does that sets none of them.
    ///
    /// # Errors
    /// One of them is not to be had.
    pub async fn open(bucket: &str) -> Result<Objects, String> {
        let settings = S3Settings::new(bucket);
        let bucket = Bucket::open_for(&settings, None, OBJECT_BYTES_MAX).await?;
        Ok(Objects { bucket })
    }

    /// All objects under a prefix, in the order of their keys.
    ///
    /// # Errors
    /// A call failed, or there are over a million.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, String> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = format!("/?list-type=2&prefix={}", parameter(prefix));
            if let Some(token) = &after {
                query = format!("{query}&continuation-token={}", parameter(token));
            }
            let body = self.get(&query).await?;
            let page = page(&body).map_err(|error| format!("an unreadable listing: {error}"))?;
            all.extend(page.listed);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
        Err(format!(
            "over {} objects under {prefix:?}",
            PAGES_MAX * 1_000
        ))
    }

    /// An object.
    ///
    /// # Errors
    /// The call failed, or the object has over [`OBJECT_BYTES_MAX`] bytes.
    pub async fn read(&self, key: &str) -> Result<Bytes, String> {
        self.get(&format!("/{}", encoded(key))).await
    }

    async fn get(&self, rest: &str) -> Result<Bytes, String> {
        let got = self.bucket.get(rest).await;
        got.map_err(|CallFailure { cause, text, .. }| format!("{text} ({})", cause.label()))
    }
}

/// A value in a query, where a slash is no separator either.
fn parameter(text: &str) -> String {
    encoded(text).replace('/', "%2F")
}

fn page(body: &[u8]) -> Result<Page, XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let name = root.start_el().local();
    if name != "ListBucketResult" {
        let other = format!("it is a {name:?}, no ListBucketResult");
        return Err(XmlDecodeError::custom(other));
    }
    let mut page = Page::default();
    let mut is_truncated = false;
    while let Some(mut element) = root.next_tag() {
        match element.start_el().local() {
            "IsTruncated" => is_truncated = try_data(&mut element)? == "true",
            "NextContinuationToken" => page.next = Some(try_data(&mut element)?.into_owned()),
            "Contents" => {
                let mut listed = Listed::default();
                while let Some(mut member) = element.next_tag() {
                    match member.start_el().local() {
                        "Key" => listed.key = try_data(&mut member)?.into_owned(),
                        "Size" => listed.bytes = try_data(&mut member)?.parse().unwrap_or(0),
                        _ => {}
                    }
                }
                page.listed.push(listed);
            }
            _ => {}
        }
    }
    page.next = page.next.filter(|_| is_truncated);
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_keys_and_where_the_next_begins() {
        let body = br#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <Name>b</Name><IsTruncated>true</IsTruncated>
            <Contents><Key>a&amp;b/c d.gz</Key><Size>17</Size><StorageClass>STANDARD</StorageClass></Contents>
            <NextContinuationToken>1/+=</NextContinuationToken></ListBucketResult>"#;
        let found = page(body).unwrap();
        let key = "a&b/c d.gz".to_owned();
        assert_eq!(found.listed, [Listed { key, bytes: 17 }]);
        assert_eq!(found.next.as_deref(), Some("1/+="));
        assert!(page(b"<html></html>").is_err());
        assert!(page(b"good gateway").is_err());
        assert_eq!(parameter("a/b +"), "a%2Fb%20%2B");
    }
}
