//! ListObjectsV2: pages of keys, grouped by a delimiter. Reads the store, changes nothing.

use super::route::Target;
use super::store::{Object, Store};
use super::xml::Document;
use crate::service::{Refusal, Reply};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::time::SystemTime;

/// Keys and prefixes of one page (service limit).
const KEYS_MAX: usize = 1_000;

/// Bytes that `encoding-type=url` keeps as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b'/');

/// One page of a listing.
#[derive(Debug, Default)]
struct Page<'a> {
    objects: Vec<(&'a str, &'a Object)>,
    prefixes: Vec<String>,
    /// The last key that this page has dealt with, when there are more.
    last: Option<String>,
}

fn page<'a>(
    store: &'a Store,
    bucket: &'a str,
    (prefix, delimiter): (&str, &str),
    after: &str,
    keys_max: usize,
) -> Page<'a> {
    let mut page = Page::default();
    // Groups that are finished.
    let mut last = after.to_owned();
    for (key, object) in store.of_bucket(bucket, prefix.max(after)) {
        let Some(rest) = key.strip_prefix(prefix) else {
            break;
        };
        let grouped = match delimiter {
            "" => None,
            _ => rest
                .find(delimiter)
                .map(|at| prefix.len() + at + delimiter.len()),
        };
        let group = grouped.and_then(|end| key.get(..end));
        let done = match group {
            // A group is done with when the page before ended with it.
            Some(group) => group <= last.as_str(),
            None => !last.is_empty() && key <= last.as_str(),
        };
        if done {
            continue;
        }
        if page.objects.len() + page.prefixes.len() == keys_max {
            page.last = Some(last);
            return page;
        }
        match group {
            Some(group) => {
                page.prefixes.push(group.to_owned());
                last = group.to_owned();
            }
            None => {
                page.objects.push((key, object));
                last = key.to_owned();
            }
        }
    }
    page
}

/// Answers a ListObjectsV2.
pub(super) fn list(store: &Store, target: &Target) -> Result<Reply, Refusal> {
    let parameter = |name: &str| target.parameter(name).unwrap_or_default();
    let argument = |message: String| Refusal::client("InvalidArgument", message);
    let keys_max = match target.parameter("max-keys") {
        None => KEYS_MAX,
        Some(text) => text.parse::<usize>().map_err(|_| {
            argument(format!(
                "Provided max-keys not an integer or within integer range: {text}"
            ))
        })?,
    };
    let after = match target.parameter("continuation-token") {
        None => parameter("start-after").to_owned(),
        Some(token) => base64_simd::URL_SAFE_NO_PAD
            .decode_to_vec(token.as_bytes())
            .ok()
            .and_then(|key| String::from_utf8(key).ok())
            .ok_or_else(|| argument("The continuation token provided is incorrect".to_owned()))?,
    };
    let (prefix, delimiter) = (parameter("prefix"), parameter("delimiter"));
    let page = page(
        store,
        &target.bucket,
        (prefix, delimiter),
        &after,
        keys_max.min(KEYS_MAX),
    );
    let encode = |text: &str| match parameter("encoding-type") {
        "url" => utf8_percent_encode(text, ESCAPED).to_string(),
        _ => text.to_owned(),
    };
    let mut document = Document::new("ListBucketResult");
    document
        .element("Name", &target.bucket)
        .element("Prefix", &encode(prefix))
        .element("MaxKeys", &keys_max.to_string())
        .element(
            "KeyCount",
            &(page.objects.len() + page.prefixes.len()).to_string(),
        )
        .element(
            "IsTruncated",
            if page.last.is_some() { "true" } else { "false" },
        );
    for (name, value) in [
        ("Delimiter", encode(delimiter)),
        ("StartAfter", encode(parameter("start-after"))),
        ("EncodingType", parameter("encoding-type").to_owned()),
        (
            "ContinuationToken",
            parameter("continuation-token").to_owned(),
        ),
    ] {
        if !value.is_empty() {
            document.element(name, &value);
        }
    }
    if let Some(last) = &page.last {
        let token = base64_simd::URL_SAFE_NO_PAD.encode_to_string(last);
        document.element("NextContinuationToken", &token);
    }
    for (key, object) in page.objects {
        document.group("Contents", |contents| {
            contents
                .element("Key", &encode(key))
                .element("LastModified", &timestamp(object.modified))
                .element("ETag", &format!("\"{}\"", object.etag))
                .element("Size", &object.size.to_string())
                .element("StorageClass", "STANDARD");
        });
    }
    for prefix in page.prefixes {
        document.group("CommonPrefixes", |group| {
            group.element("Prefix", &encode(&prefix));
        });
    }
    Ok(document.reply())
}

/// A time as the service's XML has it, in whole milliseconds.
fn timestamp(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::New;
    use super::*;

    fn store(keys: &[&str]) -> Store {
        let mut store = Store::new(1 << 20, None).unwrap();
        for key in keys {
            let new = New {
                data: Vec::new(),
                etag: "e".to_owned(),
                headers: Vec::new(),
            };
            store.put("b", key, new, SystemTime::UNIX_EPOCH).unwrap();
        }
        store
    }

    /// All pages of a listing: keys, and prefixes with an asterisk.
    fn pages(store: &Store, prefix: &str, delimiter: &str, keys_max: usize) -> Vec<Vec<String>> {
        let (mut pages, mut after) = (Vec::new(), String::new());
        loop {
            let page = page(store, "b", (prefix, delimiter), &after, keys_max);
            let keys = page.objects.iter().map(|(key, _)| (*key).to_owned());
            let prefixes = page.prefixes.iter().map(|prefix| format!("{prefix}*"));
            pages.push(keys.chain(prefixes).collect());
            match page.last {
                Some(last) => after = last,
                None => return pages,
            }
        }
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let store = store(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            pages(&store, "", "", 2),
            [vec!["a", "b"], vec!["c", "d"], vec!["e"]]
        );
        assert_eq!(pages(&store, "", "", 5), [vec!["a", "b", "c", "d", "e"]]);
        assert_eq!(pages(&store, "c", "", 5), [vec!["c"]]);
    }

    #[test]
    fn a_group_counts_as_one_and_comes_once() {
        let store = store(&["a", "x/1", "x/2", "x/3", "y/1", "z"]);
        let expected = [vec!["a", "z", "x/*", "y/*"]];
        assert_eq!(pages(&store, "", "/", 10), expected);
        let one = [vec!["a"], vec!["x/*"], vec!["y/*"], vec!["z"]];
        assert_eq!(pages(&store, "", "/", 1), one);
        assert_eq!(
            pages(&store, "x/", "/", 2),
            [vec!["x/1", "x/2"], vec!["x/3"]]
        );
    }

    #[test]
    fn times_have_milliseconds() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_500);
        assert_eq!(timestamp(time), "1970-01-01T00:00:00.001Z");
    }
}
