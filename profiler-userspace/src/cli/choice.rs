//! What of the options is recorded, and by what it is kept apart: what goes together.

use std::ffi::OsString;

use super::args::{GroupArg, RecordArgs, ReportArgs, Which};
use crate::record::{Group, TargetChoice};

/// Why options make no sense together: what to type instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChoiceError {
    #[error(
        "say what to record: --pid PID, -- PROGRAM [ARGUMENTS], --all, or which of all: --comm, \
         --user, --cgroup, --container"
    )]
    NoTarget,
    #[error(
        "--subprocesses is for those of --pid or of a program; each process, whoever started it, \
         is compared with --comm, --user, --cgroup and --container: leave --subprocesses out"
    )]
    NoParent,
    #[error(
        "--comm, --user, --cgroup and --container choose among many processes: with --pid or a \
         program, add --subprocesses; to look all over the host, leave --pid and the program out"
    )]
    FilterOfOne,
    #[error(
        "--exclude leaves processes out of many: with --pid or a program, add --subprocesses; to \
         record all others of the host, say --all instead"
    )]
    ExcludeFromOne,
    #[error("--group-by none goes with nothing else: leave none out, or the others")]
    NoneAndOthers,
}

/// Whose time.
pub(super) fn target(which: &Which, program: &[OsString]) -> Result<TargetChoice, ChoiceError> {
    let selection = which.selection();
    let has_parent = !(selection.pids.is_empty() && program.is_empty());
    if has_parent && !selection.subprocesses {
        if selection.has_filters() {
            return Err(ChoiceError::FilterOfOne);
        }
        if !selection.excludes.is_empty() {
            return Err(ChoiceError::ExcludeFromOne);
        }
    }
    if !program.is_empty() {
        return Ok(TargetChoice::Launch(program.to_vec(), selection));
    }
    if !has_parent && !selection.is_host_wide() {
        return Err(ChoiceError::NoTarget);
    }
    // All processes have all subprocesses: that is no contradiction.
    if selection.is_host_wide() && selection.subprocesses && !selection.all {
        return Err(ChoiceError::NoParent);
    }
    Ok(TargetChoice::Running(selection))
}

/// What was said to keep apart.
fn said(group_by: &[GroupArg]) -> Result<Vec<Group>, ChoiceError> {
    if group_by.contains(&GroupArg::None) && group_by.iter().any(|by| *by != GroupArg::None) {
        return Err(ChoiceError::NoneAndOthers);
    }
    let said = group_by.iter().filter_map(|by| match by {
        GroupArg::Process => Some(Group::Process),
        GroupArg::Command => Some(Group::Command),
        GroupArg::Container => Some(Group::Container),
        GroupArg::Thread => Some(Group::Thread),
        GroupArg::Cgroup => Some(Group::Cgroup),
        GroupArg::User => Some(Group::User),
        GroupArg::None => None,
    });
    Ok(said.collect())
}

fn without_repeats(groups: impl IntoIterator<Item = Group>) -> Vec<Group> {
    let mut each = Vec::new();
    for group in groups {
        if !each.contains(&group) {
            each.push(group);
        }
    }
    each
}

/// What stacks are kept apart by, outermost first.
pub(super) fn groups(args: &RecordArgs, target: &TargetChoice) -> Result<Vec<Group>, ChoiceError> {
    let said = said(&args.group_by)?;
    let many = args.group_by.is_empty() && target.can_be_many();
    // Of a whole system, programs that are no Pythons are told by their names: there are many.
    let whole_system = args.native.is_some() && target.selection().is_everything();
    let by_default = many.then_some(match whole_system {
        true => Group::ProcessOrCommand,
        false => Group::Process,
    });
    let threads = args.threads.then_some(Group::Thread);
    Ok(without_repeats(
        said.into_iter().chain(by_default).chain(threads),
    ))
}

/// The same of a recording, for which `recorded` was said.
pub(super) fn report_groups(
    args: &ReportArgs,
    recorded: &[Group],
) -> Result<Vec<Group>, ChoiceError> {
    let groups = match args.group_by.is_empty() {
        true => recorded.to_vec(),
        false => said(&args.group_by)?,
    };
    let threads = args.threads.then_some(Group::Thread);
    Ok(without_repeats(groups.into_iter().chain(threads)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::args::Args;
    use super::*;

    fn target_of(words: &str) -> Result<TargetChoice, ChoiceError> {
        let args = args(words);
        target(&args.which, &args.program)
    }

    fn args(words: &str) -> RecordArgs {
        let words = std::iter::once("pyscry").chain(words.split_whitespace());
        Args::try_parse_from(words).expect("valid").record
    }

    #[test]
    fn what_is_recorded() {
        for (words, expected) in [
            ("-p 12", "process 12"),
            ("-p 12,13 -p 0x10 --pid 12", "processes 12, 13 and 16"),
            ("-p 12 -s", "process 12 and its subprocesses"),
            ("-p 1,2,3 -s", "processes 1, 2, 3 and their subprocesses"),
            ("-a", "all processes"),
            ("-a -s", "all processes"),
            (
                "-a --exclude nginx --exclude pid=7",
                "all processes, without nginx and process 7",
            ),
            (
                "--comm python3* --comm uwsgi",
                "processes called python3* or uwsgi",
            ),
            (
                "--user root --container ab12",
                "processes of user root in container ab12",
            ),
            (
                "--cgroup /sys/fs/cgroup/a/",
                "processes in control group /a",
            ),
            ("-- /usr/bin/python3 app.py", "python3"),
            ("-s -- python3 app.py", "python3 and its subprocesses"),
            (
                "-s --comm celery -- honcho start",
                "honcho and its subprocesses called celery",
            ),
        ] {
            let target = target_of(words).expect(words);
            assert_eq!(target.to_string(), expected, "{words}");
        }
    }

    #[test]
    fn what_makes_no_sense() {
        for (words, expected) in [
            ("-d 1", ChoiceError::NoTarget),
            ("-s -d 1", ChoiceError::NoTarget),
            ("--exclude nginx", ChoiceError::NoTarget),
            ("--comm python3 -s", ChoiceError::NoParent),
            ("-p 12 --comm python3", ChoiceError::FilterOfOne),
            ("--user root -- python3", ChoiceError::FilterOfOne),
            ("-p 12 --exclude nginx", ChoiceError::ExcludeFromOne),
        ] {
            assert_eq!(target_of(words), Err(expected), "{words}");
        }
    }

    #[test]
    fn what_stacks_are_kept_apart_by() {
        use Group::{Command, Container, Process, ProcessOrCommand, Thread, User};
        for (words, expected) in [
            ("-p 12", &[][..]),
            ("-p 12 -t", &[Thread]),
            ("-p 12 --group-by process", &[Process]),
            ("-p 12,13", &[Process]),
            ("-p 12 -s -t", &[Process, Thread]),
            ("-s -- python3", &[Process]),
            ("-a", &[Process]),
            ("-a --native", &[ProcessOrCommand]),
            ("-a --native --group-by process", &[Process]),
            ("-a --group-by none", &[]),
            ("-a --group-by none -t", &[Thread]),
            ("-a --group-by container,command", &[Container, Command]),
            ("-a --group-by user --group-by thread -t", &[User, Thread]),
        ] {
            let args = args(words);
            let target = target(&args.which, &args.program).expect(words);
            assert_eq!(groups(&args, &target).as_deref(), Ok(expected), "{words}");
        }
        let args = args("-a --group-by none,process");
        let target = target(&args.which, &args.program).expect("valid");
        assert_eq!(groups(&args, &target), Err(ChoiceError::NoneAndOthers));
    }
}
