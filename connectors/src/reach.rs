//! The folders that a process may read when its topology is not its user's own. What a topology names is checked by the planner; this is for
//! what is only found while it runs, as a pattern's files are.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// From now on nothing is read outside of these folders. The first call counts; without one everything may be read.
pub fn limit(folders: &[PathBuf]) {
    let real = || folders.iter().filter_map(|f| std::fs::canonicalize(f).ok()).collect();
    FOLDERS.get_or_init(real);
}

/// Whether a file may be read, wherever symbolic links lead.
pub fn allows(file: &Path) -> bool {
    FOLDERS.get().is_none_or(|folders| within(file, folders))
}

fn within(file: &Path, folders: &[PathBuf]) -> bool {
    std::fs::canonicalize(file).is_ok_and(|real| folders.iter().any(|f| real.starts_with(f)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_out_are_not_followed() {
        let all = tempfile::tempdir().unwrap();
        let path = |name: &str| std::fs::canonicalize(all.path()).unwrap().join(name);
        for folder in ["own", "own2"] {
            std::fs::create_dir(path(folder)).unwrap();
            std::fs::write(path(folder).join("a"), "").unwrap();
        }
        std::os::unix::fs::symlink(path("own2"), path("own/out")).unwrap();
        std::os::unix::fs::symlink(path("own/a"), path("own/in")).unwrap();
        let folders = [path("own")];
        for (file, want) in
            [("own/a", true), ("own/in", true), ("own/out/a", false), ("own2/a", false), ("own/none", false), ("own/../own2/a", false)]
        {
            assert_eq!(within(&path(file), &folders), want, "{file}");
        }
    }
}
