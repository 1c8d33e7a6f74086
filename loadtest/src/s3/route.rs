//! Which bucket, key and operation a request means.

use hyper::Method;
use hyper::header::HOST;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;

/// Where a request goes. The parts are decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) bucket: String,
    /// Empty for the bucket itself.
    pub(super) key: String,
    query: Vec<(String, String)>,
}

impl Target {
    /// Reads a request's target: by path, or by virtual host when the host begins with the name
    /// of one of `buckets`. `None` when it is no UTF-8.
    pub(super) fn of(head: &Parts, buckets: &[String]) -> Option<Target> {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
        let named = |bucket: &&String| {
            let rest = host.and_then(|host| host.strip_prefix(bucket.as_str()));
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        let path = percent_decode_str(head.uri.path()).decode_utf8().ok()?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = match buckets.iter().find(named) {
            Some(bucket) => (bucket.as_str(), path),
            None => path.split_once('/').unwrap_or((path, "")),
        };
        let query = head.uri.query().unwrap_or_default().split('&');
        let query = query
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let decode = |text| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
                Some((decode(name)?, decode(value)?))
            })
            .collect::<Option<_>>()?;
        Some(Target {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query,
        })
    }

    /// The value of a query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The operation; `unknown` for those that are not emulated.
    pub(super) fn operation(&self, method: &Method) -> &'static str {
        let has = |name: &str| self.parameter(name).is_some();
        // Other parameters choose other operations, such as `acl`, which must not be mistaken.
        let only = |known: &[&str]| {
            let mut names = self.query.iter().map(|(name, _)| name.as_str());
            names.all(|name| name == "x-id" || known.contains(&name))
        };
        let object = !self.key.is_empty();
        match *method {
            Method::PUT if object && has("partNumber") && only(&["partNumber", "uploadId"]) => {
                "UploadPart"
            }
            Method::PUT if object && only(&[]) => "PutObject",
            Method::POST if object && has("uploads") && only(&["uploads"]) => {
                "CreateMultipartUpload"
            }
            Method::POST if object && has("uploadId") && only(&["uploadId"]) => {
                "CompleteMultipartUpload"
            }
            Method::DELETE if object && has("uploadId") && only(&["uploadId"]) => {
                "AbortMultipartUpload"
            }
            Method::GET if object && only(&[]) => "GetObject",
            Method::HEAD if object && only(&[]) => "HeadObject",
            Method::HEAD if !self.bucket.is_empty() && !object => "HeadBucket",
            Method::GET if !object && self.parameter("list-type") == Some("2") => "ListObjectsV2",
            _ => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn route(method: Method, host: &str, uri: &str) -> (String, String, &'static str) {
        let request = Request::builder().method(method.clone()).uri(uri);
        let head = request.header(HOST, host).body(()).unwrap().into_parts().0;
        let buckets = ["clicks".to_owned(), "click".to_owned()];
        let target = Target::of(&head, &buckets).unwrap();
        let operation = target.operation(&method);
        (target.bucket, target.key, operation)
    }

    #[test]
    fn path_and_virtual_host_name_the_same_object() {
        let expected = ("clicks".to_owned(), "a/b c".to_owned(), "PutObject");
        assert_eq!(
            route(Method::PUT, "127.0.0.1:1", "/clicks/a/b%20c"),
            expected
        );
        assert_eq!(
            route(Method::PUT, "clicks.localhost:1", "/a/b%20c"),
            expected
        );
        let other = route(Method::PUT, "clicksx.localhost", "/a/b");
        assert_eq!((other.0.as_str(), other.1.as_str()), ("a", "b"));
    }

    #[test]
    fn the_query_chooses_the_operation() {
        for (method, uri, expected) in [
            (Method::PUT, "/clicks/k?x-id=PutObject", "PutObject"),
            (Method::PUT, "/clicks/k?acl", "unknown"),
            (Method::PUT, "/clicks", "unknown"),
            (
                Method::PUT,
                "/clicks/k?partNumber=1&uploadId=u",
                "UploadPart",
            ),
            (Method::POST, "/clicks/k?uploads", "CreateMultipartUpload"),
            (
                Method::POST,
                "/clicks/k?uploadId=u",
                "CompleteMultipartUpload",
            ),
            (
                Method::DELETE,
                "/clicks/k?uploadId=u",
                "AbortMultipartUpload",
            ),
            (Method::DELETE, "/clicks/k", "unknown"),
            (Method::GET, "/clicks?list-type=2&prefix=a", "ListObjectsV2"),
            (Method::GET, "/clicks?prefix=a", "unknown"),
            (Method::GET, "/clicks/k", "GetObject"),
            (Method::GET, "/clicks/k?tagging", "unknown"),
            (Method::HEAD, "/clicks/k", "HeadObject"),
            (Method::HEAD, "/clicks", "HeadBucket"),
            (Method::GET, "/", "unknown"),
        ] {
            assert_eq!(route(method, "x", uri).2, expected, "{uri}");
        }
    }
}
