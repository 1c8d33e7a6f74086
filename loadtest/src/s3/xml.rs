//! The XML of S3: answers out, the list of parts in.

use crate::service::{Refusal, Reply};
use bytes::Bytes;

/// Elements that a request's XML may have: 10,000 parts with their members.
const NODES_MAX: u32 = 200_000;

/// The namespace of all answers but errors.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A document that is written element by element.
pub(super) struct Document {
    text: String,
    root: &'static str,
}

impl Document {
    pub(super) fn new(root: &'static str) -> Document {
        let text =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} xmlns=\"{NAMESPACE}\">");
        Document { text, root }
    }

    pub(super) fn element(&mut self, name: &str, value: &str) -> &mut Document {
        let value = escape(value);
        self.text.push_str(&format!("<{name}>{value}</{name}>"));
        self
    }

    /// An element around those that `inside` writes.
    pub(super) fn group(&mut self, name: &str, inside: impl FnOnce(&mut Document)) {
        self.text.push_str(&format!("<{name}>"));
        inside(self);
        self.text.push_str(&format!("</{name}>"));
    }

    pub(super) fn reply(mut self) -> Reply {
        self.text.push_str(&format!("</{}>", self.root));
        Reply::new(200, Bytes::from(self.text))
    }
}

/// An error as the service writes it.
pub(super) fn error(refusal: &Refusal, resource: &str) -> Reply {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>\
         <Resource>{}</Resource><RequestId>0000000000000000</RequestId></Error>",
        refusal.code,
        escape(&refusal.message),
        escape(resource)
    );
    Reply::new(refusal.status, Bytes::from(text))
}

/// Text as XML can carry it; characters that it cannot carry at all become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'.. => {
                escaped.push(char);
            }
            _ => escaped.push('\u{FFFD}'),
        }
    }
    escaped
}

/// The parts that a CompleteMultipartUpload names: numbers and ETags, in its order.
pub(super) fn parts(body: &[u8]) -> Option<Vec<(u32, String)>> {
    let text = std::str::from_utf8(body).ok()?;
    let options = roxmltree::ParsingOptions {
        nodes_limit: NODES_MAX,
        ..roxmltree::ParsingOptions::default()
    };
    let document = roxmltree::Document::parse_with_options(text, options).ok()?;
    let root = document.root_element();
    if root.tag_name().name() != "CompleteMultipartUpload" {
        return None;
    }
    let parts = root
        .children()
        .filter(|node| node.has_tag_name_local("Part"));
    parts
        .map(|part| {
            let member = |name: &str| {
                let member = part.children().find(|node| node.has_tag_name_local(name))?;
                member.text()
            };
            let number = member("PartNumber")?.trim().parse().ok()?;
            Some((number, member("ETag")?.trim().trim_matches('"').to_owned()))
        })
        .collect()
}

/// Clients write the namespace or leave it out; both are the same element here.
trait LocalName {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl LocalName for roxmltree::Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_carry_is_escaped_or_replaced() {
        assert_eq!(
            escape("a<b>&\"c\r\n\u{1}\u{e4}"),
            "a&lt;b&gt;&amp;&quot;c&#13;\n\u{FFFD}\u{e4}"
        );
        let mut document = Document::new("R");
        document.group("G", |inside| {
            inside.element("K", "<");
        });
        let text = String::from_utf8(document.reply().body.to_vec()).unwrap();
        let read = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(
            read.root_element().first_element_child().unwrap().text(),
            None
        );
        assert!(text.contains("<G><K>&lt;</K></G></R>"));
    }

    #[test]
    fn parts_are_read_with_and_without_a_namespace() {
        for (namespace, etag) in [("", "\"e1\""), (NAMESPACE, "&quot;e1&quot;")] {
            let body = format!(
                "<?xml version=\"1.0\"?><CompleteMultipartUpload xmlns=\"{namespace}\">\
                 <Part><ETag>{etag}</ETag><PartNumber>1</PartNumber></Part>\
                 <Part><PartNumber>7</PartNumber><ETag>e7</ETag><ChecksumCRC32>x</ChecksumCRC32>\
                 </Part></CompleteMultipartUpload>"
            );
            let expected = vec![(1, "e1".to_owned()), (7, "e7".to_owned())];
            assert_eq!(parts(body.as_bytes()), Some(expected));
        }
    }

    #[test]
    fn what_names_no_parts_is_refused() {
        for body in [
            "",
            "<Other/>",
            "<CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>e</ETag></Part>\
             </CompleteMultipartUpload>",
            "<CompleteMultipartUpload>",
            "<!DOCTYPE x [<!ENTITY a \"b\">]><CompleteMultipartUpload/>",
        ] {
            assert_eq!(parts(body.as_bytes()), None, "{body}");
        }
    }
}
