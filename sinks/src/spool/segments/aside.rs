//! Bytes and records that are put aside: what is no record, and what the destination refused for good.

use super::listing::{BAD_SUFFIX, REFUSED_SUFFIX, TORN_SUFFIX, segment_name};
use super::{Place, Segments};
use crate::disk::Failure;
use crate::disk::grow::Growing;
use crate::disk::store::write_all;
use crate::spool::record::{Entry, segment_head};
use std::io;
use std::path::PathBuf;
use tracing::warn;

impl Segments {
    /// Copies bytes that are no record beside their segment.
    pub(super) fn put_aside(&mut self, at: usize, offset: u64, content: &[u8], is_tail: bool) {
        let Some(segment) = self.known.get_mut(at) else {
            return;
        };
        let range = offset..offset + content.len() as u64;
        if segment.damaged.contains(&range) {
            return;
        }
        segment.damaged.push(range);
        let suffix = if is_tail { TORN_SUFFIX } else { BAD_SUFFIX };
        let mut path = segment.path.clone().into_os_string();
        path.push(format!(".{offset}{suffix}"));
        let path = PathBuf::from(path);
        warn!(
            segment = %segment.path.display(),
            offset,
            bytes = content.len(),
            is_tail,
            "bytes of a segment are no record: put aside"
        );
        // An earlier start may have been here; it counted them then, as this one did when it listed the directory.
        if path.exists() {
            return;
        }
        let copied = self.store.create_file(&path).and_then(|mut file| {
            write_all(&mut *file, content)?;
            file.sync()?;
            self.store.sync_dir(&self.dir)
        });
        if let Err(error) = copied {
            warn!(
                segment = %segment.path.display(),
                %error,
                "cannot put bytes aside: the segment stays on disk"
            );
            let _ = self.store.remove_file(&path);
            segment.is_kept = true;
        }
        let bytes = content.len() as u64;
        self.aside.bytes += bytes;
        if !is_tail {
            self.aside.lost_bytes += bytes;
        }
    }

    /// Keeps records that the destination refused for good in a file of their own. Where that fails they are not
    /// settled, so that their segment stays.
    pub(in crate::spool) fn refused(&mut self, records: &[(Place, Entry)]) {
        self.stats.refused_records.add(records.len() as u64);
        match self.append_refused(records) {
            Ok(bytes) => {
                self.aside.bytes += bytes;
                self.aside.lost_bytes += bytes;
                for (place, _) in records {
                    self.forget(*place);
                }
            }
            Err(Failure { doing, error, .. }) => {
                warn!(dir = %self.dir.display(), doing, %error, "cannot put refused records aside: their segment stays on disk");
            }
        }
    }

    fn append_refused(&mut self, records: &[(Place, Entry)]) -> Result<u64, Failure> {
        let (file, salt) = match self.refused.take() {
            Some(refused) => refused,
            None => {
                let salt = fastrand::u64(..);
                let mut name = segment_name((self.clock)(), salt);
                name.push_str(REFUSED_SUFFIX);
                let path = self.dir.join(name);
                let file = self
                    .create_file(&path)
                    .map_err(|error| Failure::new("create", error))?;
                (Growing::new(path, file), salt)
            }
        };
        let mut bytes = Vec::new();
        if file.synced_bytes() == 0 {
            bytes = segment_head(salt);
        }
        for (_, entry) in records {
            entry
                .encode(salt, &mut bytes)
                .map_err(|error| Failure::new("encode", io::Error::other(error)))?;
        }
        match file.append(&bytes) {
            Ok(file) => {
                self.refused = Some((file, salt));
                Ok(bytes.len() as u64)
            }
            Err((failure, _)) => Err(failure),
        }
    }
}
