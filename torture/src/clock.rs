//! A wall clock that jumps for the service alone: a small library, built with the C compiler that is here
//! anyway, stands between the service and the kernel. Monotonic time does not jump.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("clock.c");

/// The library, built.
pub(crate) struct Clockwork {
    library: PathBuf,
    _folder: tempfile::TempDir,
}

impl Clockwork {
    /// Builds it. `None`: there is no C compiler.
    pub(crate) fn build() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, SOURCE).ok()?;
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        let built = compile.status().is_ok_and(|status| status.success());
        built.then_some(Self { library, _folder: folder })
    }

    /// A clock that is right, its jump kept in `file`.
    pub(crate) fn clock(&self, file: &Path) -> std::io::Result<Clock> {
        let clock = Clock { library: self.library.clone(), file: file.to_owned() };
        std::fs::write(file, 0_i64.to_ne_bytes())?;
        Ok(clock)
    }
}

/// The clock of a round's services.
pub(crate) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// What a service is started with to live by it.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let pair = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        [pair("LD_PRELOAD", &self.library), pair("TORTURE_JUMP", &self.file)].into()
    }

    /// It is off by so many seconds from now on.
    pub(crate) fn jump(&self, seconds: i64) {
        if let Ok(file) = std::fs::OpenOptions::new().write(true).open(&self.file) {
            let _ = file.write_all_at(&seconds.to_ne_bytes(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_jumps_for_who_lives_by_it() {
        let Some(clockwork) = Clockwork::build() else { return };
        let folder = tempfile::tempdir().unwrap();
        let clock = clockwork.clock(&folder.path().join("jump")).unwrap();
        let year = || {
            let mut date = Command::new("date");
            let said = date.arg("+%Y").envs(clock.variables()).output().unwrap().stdout;
            String::from_utf8(said).unwrap().trim().parse::<i64>().unwrap()
        };
        let now = year();
        clock.jump(10 * 366 * 24 * 3_600);
        assert!((now + 9..=now + 11).contains(&year()));
        clock.jump(0);
        assert!((now..=now + 1).contains(&year()));
    }
}
