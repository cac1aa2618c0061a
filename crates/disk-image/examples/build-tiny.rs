//! `build-tiny FOLDER [USER]`: builds the tiny guest image and prints where it is.

use disk_image::tiny::{Options, build_tiny};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options::new(arguments.next().ok_or("usage: build-tiny FOLDER [USER]")?);
    options.user = arguments.next().unwrap_or(options.user);
    let mut last = None;
    let path = build_tiny(&options, &mut |progress| {
        if last.replace(progress.stage) != Some(progress.stage) {
            eprintln!("{}", progress.stage.text());
        }
    })?;
    println!("{}", path.display());
    Ok(())
}
