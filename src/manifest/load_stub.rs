//! Stands for the loader until it is there.

use super::{Loaded, Problem};
use std::path::PathBuf;

#[derive(Debug)]
pub struct Loader(PathBuf);

impl Loader {
    pub fn new(dir: PathBuf) -> Loader {
        Loader(dir)
    }

    pub fn load(&mut self) -> Result<(Loaded, Vec<Problem>), Vec<Problem>> {
        Ok((Loaded { digest: [self.0.as_os_str().len() as u8; 32], ..Loaded::default() }, Vec::new()))
    }

    pub fn accept(&mut self) {}

    pub fn inputs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    pub fn locate(&self, _: &mut [Problem]) {}
}
