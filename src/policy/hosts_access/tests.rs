//! Tests
use super::Surroundings;
use std::collections::BTreeMap;
#[derive(Default)]
pub(super) struct World {
    files: BTreeMap<String, Vec<u8>>,
}
impl World {
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(p, t)| ((*p).to_owned(), t.as_bytes().to_vec())).collect() }
    }
}
impl Surroundings for World {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or_else(|| "No such file or directory".to_owned())
    }
    fn has_user(&mut self, name: &str) -> bool {
        name == "nobody"
    }
    fn has_group(&mut self, name: &str) -> bool {
        name == "nogroup"
    }
}
