//! `ferrostack image build-tiny`.

use super::up::Steps;
use crate::Failure;
use disk_image::tiny::{Options, Progress, build_tiny};
use std::path::{Path, PathBuf};

/// A line for a stage of the build.
pub fn text(progress: Progress) -> String {
    let stage = progress.stage.text();
    match (progress.done, progress.total) {
        (_, 0) => format!("image: {stage}"),
        (done, total) => format!("image: {stage} {} %", done * 100 / total),
    }
}

/// Builds the image and puts it at `output`.
pub fn run(output: &Path, user: &str, password: &str, cache: Option<PathBuf>) -> Result<(), Failure> {
    let output = std::path::absolute(output)?;
    let folder = cache.unwrap_or_else(|| output.parent().map_or_else(|| PathBuf::from("."), |p| p.join(".ferrostack-tiny")));
    let mut options = Options::new(folder);
    options.user = user.into();
    options.password = (!password.is_empty()).then(|| password.to_string());
    let steps = Steps::new();
    let built = build_tiny(&options, &mut |p| steps.doing(&text(p)))?;
    let beside = output.with_extension("part");
    std::fs::copy(&built, &beside)?;
    std::fs::rename(&beside, &output)?;
    println!("{}", output.display());
    Ok(())
}
