//! Multipart uploads: parts until they become one object. Holds them in memory, checks the rules
//! of completion.

use super::store::{Store, StoreError};
use crate::service::Refusal;
use md5::{Digest, Md5};
use std::collections::BTreeMap;

/// Bytes of every part but the last (service limit).
pub const PART_BYTES_MIN: usize = 5 << 20;

/// Largest number of a part, thus the most parts of an object (service limit).
pub const PART_NUMBER_MAX: u32 = 10_000;

/// Uploads that are neither completed nor aborted.
const UPLOADS_MAX: usize = 10_000;

#[derive(Debug)]
struct Part {
    data: Vec<u8>,
    md5: [u8; 16],
}

#[derive(Debug)]
struct Upload {
    bucket: String,
    key: String,
    headers: Vec<(String, String)>,
    parts: BTreeMap<u32, Part>,
}

/// All unfinished uploads, by their ids.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: BTreeMap<String, Upload>,
    begun: u64,
}

/// A finished upload.
pub(super) struct Completed {
    pub(super) data: Vec<u8>,
    pub(super) etag: String,
    pub(super) headers: Vec<(String, String)>,
}

fn no_such_upload() -> Refusal {
    let message = "The specified multipart upload does not exist. The upload ID might be invalid, \
                   or the multipart upload might have been aborted or completed.";
    Refusal::new(404, "NoSuchUpload", message)
}

impl Uploads {
    /// Begins an upload; returns its id.
    pub(super) fn create(
        &mut self,
        bucket: &str,
        key: &str,
        headers: Vec<(String, String)>,
    ) -> Result<String, Refusal> {
        if self.open.len() >= UPLOADS_MAX {
            let message = format!("The emulator keeps at most {UPLOADS_MAX} unfinished uploads.");
            return Err(Refusal::new(503, "ServiceUnavailable", message));
        }
        self.begun += 1;
        let id = format!("upload-{:016x}", self.begun);
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            headers,
            parts: BTreeMap::new(),
        };
        self.open.insert(id.clone(), upload);
        Ok(id)
    }

    fn find(&mut self, id: &str, bucket: &str, key: &str) -> Result<&mut Upload, Refusal> {
        let upload = self.open.get_mut(id);
        let own = upload.filter(|upload| upload.bucket == bucket && upload.key == key);
        own.ok_or_else(no_such_upload)
    }

    /// Whether there is this upload for this key.
    pub(super) fn check(&mut self, id: &str, bucket: &str, key: &str) -> Result<(), Refusal> {
        self.find(id, bucket, key).map(|_| ())
    }

    /// Adds a part, or replaces the one with its number.
    pub(super) fn put(
        &mut self,
        id: &str,
        (bucket, key): (&str, &str),
        number: u32,
        data: Vec<u8>,
        md5: [u8; 16],
        store: &mut Store,
    ) -> Result<(), PutPartError> {
        let upload = self.find(id, bucket, key).map_err(PutPartError::Refused)?;
        store.reserve(data.len()).map_err(PutPartError::Store)?;
        let old = upload.parts.insert(number, Part { data, md5 });
        store.release(old.map_or(0, |old| old.data.len()));
        Ok(())
    }

    /// Joins the parts that are named, in their order, and forgets the upload.
    pub(super) fn complete(
        &mut self,
        id: &str,
        (bucket, key): (&str, &str),
        named: &[(u32, String)],
        store: &mut Store,
    ) -> Result<Completed, Refusal> {
        let upload = self.find(id, bucket, key)?;
        if named.is_empty() {
            let message = "You must specify at least one part";
            return Err(Refusal::client("MalformedXML", message));
        }
        if !named.is_sorted_by(|(one, _), (next, _)| one < next) {
            let message = "The list of parts was not in ascending order. The parts list must be \
                           specified in order by part number.";
            return Err(Refusal::client("InvalidPartOrder", message));
        }
        let mut digests = Vec::with_capacity(named.len() * 16);
        let last = named.last().map(|(number, _)| *number);
        let mut size = 0;
        for (number, etag) in named {
            let part = upload.parts.get(number);
            let Some(part) = part.filter(|part| hex(&part.md5) == *etag) else {
                return Err(Refusal::client(
                    "InvalidPart",
                    format!(
                        "One or more of the specified parts could not be found: part {number}."
                    ),
                ));
            };
            if part.data.len() < PART_BYTES_MIN && last != Some(*number) {
                return Err(Refusal::client(
                    "EntityTooSmall",
                    format!(
                        "Your proposed upload is smaller than the minimum allowed size: part \
                         {number} has {} bytes, not {PART_BYTES_MIN}.",
                        part.data.len()
                    ),
                ));
            }
            digests.extend_from_slice(&part.md5);
            size += part.data.len();
        }
        let upload = self.open.remove(id).ok_or_else(no_such_upload)?;
        let mut data = Vec::with_capacity(size);
        let mut parts = upload.parts;
        for (number, _) in named {
            if let Some(part) = parts.remove(number) {
                store.release(part.data.len());
                data.extend_from_slice(&part.data);
            }
        }
        // Parts that were not named are gone, too.
        store.release(parts.values().map(|part| part.data.len()).sum());
        Ok(Completed {
            data,
            etag: format!("{}-{}", hex(&Md5::digest(&digests)), named.len()),
            headers: upload.headers,
        })
    }

    /// Forgets an upload.
    pub(super) fn abort(
        &mut self,
        id: &str,
        bucket: &str,
        key: &str,
        store: &mut Store,
    ) -> Result<(), Refusal> {
        self.check(id, bucket, key)?;
        if let Some(upload) = self.open.remove(id) {
            store.release(upload.parts.values().map(|part| part.data.len()).sum());
        }
        Ok(())
    }

    /// How many are unfinished.
    pub(super) fn open(&self) -> u64 {
        self.open.len() as u64
    }
}

/// Why a part is not taken.
#[derive(Debug)]
pub(super) enum PutPartError {
    Refused(Refusal),
    Store(StoreError),
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: (&str, &str) = ("b", "k");

    fn begun(memory: usize) -> (Uploads, Store, String) {
        let mut uploads = Uploads::default();
        let id = uploads.create("b", "k", Vec::new()).unwrap();
        (uploads, Store::new(memory, None).unwrap(), id)
    }

    fn put(uploads: &mut Uploads, store: &mut Store, id: &str, number: u32, size: usize) -> String {
        let data = vec![number as u8; size];
        let md5: [u8; 16] = Md5::digest(&data).into();
        uploads.put(id, PLACE, number, data, md5, store).unwrap();
        hex(&md5)
    }

    #[test]
    fn parts_become_one_object_with_the_digest_of_their_digests() {
        let (mut uploads, mut store, id) = begun(11 << 20);
        put(&mut uploads, &mut store, &id, 1, PART_BYTES_MIN);
        let two = put(&mut uploads, &mut store, &id, 2, 3);
        // A part that is sent again replaces the first one, also in memory.
        let one = put(&mut uploads, &mut store, &id, 1, PART_BYTES_MIN);
        put(&mut uploads, &mut store, &id, 9, 4);
        let named = [(1, one), (2, two)];
        let completed = uploads.complete(&id, PLACE, &named, &mut store).unwrap();
        assert_eq!(completed.data.len(), PART_BYTES_MIN + 3);
        assert_eq!(completed.data[PART_BYTES_MIN..], [2, 2, 2]);
        assert!(completed.etag.ends_with("-2"));
        assert_eq!(uploads.open(), 0);
        assert!(store.reserve(11 << 20).is_ok(), "parts are still counted");
        let again = uploads.complete(&id, PLACE, &named, &mut store);
        assert_eq!(again.err().unwrap().code, "NoSuchUpload");
    }

    #[test]
    fn bad_parts_are_refused_and_the_upload_stays() {
        let (mut uploads, mut store, id) = begun(20 << 20);
        let one = put(&mut uploads, &mut store, &id, 1, PART_BYTES_MIN - 1);
        let two = put(&mut uploads, &mut store, &id, 2, 3);
        for (named, expected) in [
            (vec![], "MalformedXML"),
            (vec![(3, one.clone())], "InvalidPart"),
            (vec![(1, two.clone())], "InvalidPart"),
            (vec![(2, two.clone()), (1, one.clone())], "InvalidPartOrder"),
            (vec![(1, one.clone()), (1, one.clone())], "InvalidPartOrder"),
            (vec![(1, one.clone()), (2, two.clone())], "EntityTooSmall"),
        ] {
            let refused = uploads.complete(&id, PLACE, &named, &mut store);
            assert_eq!(refused.err().unwrap().code, expected, "{named:?}");
        }
        let other = uploads.complete(&id, ("b", "other"), &[(1, one.clone())], &mut store);
        assert_eq!(other.err().unwrap().code, "NoSuchUpload");
        assert!(
            uploads
                .complete(&id, PLACE, &[(1, one)], &mut store)
                .is_ok()
        );
    }

    #[test]
    fn an_aborted_upload_frees_its_memory() {
        let (mut uploads, mut store, id) = begun(4);
        put(&mut uploads, &mut store, &id, 1, 4);
        let refused = uploads.put(&id, PLACE, 2, vec![0], [0; 16], &mut store);
        assert!(matches!(
            refused,
            Err(PutPartError::Store(StoreError::Full { limit: 4 }))
        ));
        uploads.abort(&id, "b", "k", &mut store).unwrap();
        assert!(uploads.abort(&id, "b", "k", &mut store).is_err());
        assert!(store.reserve(4).is_ok());
    }
}
