//! The file that is written where nobody names one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::record::{Selection, TargetChoice};

/// Characters of a name: file systems take 255 bytes with the time and the extension.
const MOST: usize = 80;

/// `WHAT-TIME.svg`, as py-spy names it: `python3-…`, `1234-…`, `1234-and-2-more-…`, `all-…`.
pub(super) fn default_path(target: &TargetChoice, extension: &str) -> PathBuf {
    let what = match target {
        TargetChoice::Launch(words, _) => program(words),
        TargetChoice::Running(selection) => running(selection),
    };
    let time = jiff::Zoned::now().strftime("%Y-%m-%dT%H-%M-%S%z");
    PathBuf::from(format!("{what}-{time}.{extension}"))
}

fn program(words: &[OsString]) -> String {
    words
        .first()
        .and_then(|program| Path::new(program).file_name())
        .map_or_else(
            || "program".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
}

fn running(selection: &Selection) -> String {
    match selection.pids.as_slice() {
        [] => {}
        [pid] => return pid.to_string(),
        [first, others @ ..] => return format!("{first}-and-{}-more", others.len()),
    }
    fn one<T: ToString>(kind: &[T]) -> Option<String> {
        kind.first().map(ToString::to_string)
    }
    let parts = [
        one(&selection.comms),
        one(&selection.users).map(|name| format!("user-{name}")),
        one(&selection.cgroups),
        one(&selection.containers).map(|name| format!("container-{name}")),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .flatten()
        .map(|part| plain(&part))
        .filter(|part| !part.is_empty())
        .collect();
    match parts.is_empty() {
        true => "all".to_owned(),
        false => parts.join("-").chars().take(MOST).collect(),
    }
}

/// What no shell and no file system makes anything of.
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    let pieces: Vec<&str> = text
        .split(|c| !is_plain(c))
        .map(|piece| piece.trim_matches('.'))
        .filter(|piece| !piece.is_empty())
        .collect();
    pieces.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::criteria::{Cgroup, Comm, Container, UserId};

    #[test]
    fn names() {
        let path = |target| {
            let path = default_path(&target, "svg").to_string_lossy().into_owned();
            let (what, time) = path.rsplit_once("-20").expect("a time");
            assert!(time.ends_with(".svg"), "{path}");
            what.to_owned()
        };
        let pids = |pids: &[u32]| {
            TargetChoice::Running(Selection {
                pids: pids.to_vec(),
                ..Selection::default()
            })
        };
        let words = vec!["/usr/bin/python3".into(), "app.py".into()];
        let launch = TargetChoice::Launch(words, Selection::default());
        assert_eq!(path(launch), "python3");
        assert_eq!(path(pids(&[12])), "12");
        assert_eq!(path(pids(&[12, 9, 7])), "12-and-2-more");
        let all = Selection {
            all: true,
            ..Selection::default()
        };
        assert_eq!(path(TargetChoice::Running(all.clone())), "all");
        let some = Selection {
            comms: vec!["python3*".parse::<Comm>().expect("valid")],
            users: vec![UserId(0)],
            cgroups: vec!["/a.slice/b c".parse::<Cgroup>().expect("valid")],
            containers: vec!["ab12".parse::<Container>().expect("valid")],
            ..Selection::default()
        };
        let expected = "python3-user-root-a.slice_b_c-container-ab12";
        assert_eq!(path(TargetChoice::Running(some)), expected);
        let root = Selection {
            cgroups: vec!["/".parse::<Cgroup>().expect("valid")],
            ..all
        };
        assert_eq!(path(TargetChoice::Running(root)), "all");
    }
}
