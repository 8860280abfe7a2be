//! What stands at the root of each stack: whose it is.

use super::group::{self, Owner, command_of};
use super::profile::{Key, Root};
use super::recording::Recording;

impl Recording {
    /// The frames below a stack: those of its process and thread, as far as they are told apart. A
    /// process that is no target has one frame in all, its command.
    #[must_use]
    pub fn root(&self, key: &Key) -> Root {
        let Some(known) = self.processes.known(key.process) else {
            let command = self.collector.stacks.process(key.stack).unwrap_or("?");
            return Root {
                frames: vec![command_of(command)],
                with_stack: false,
            };
        };
        let thread = (key.tid != 0).then(|| {
            let name = self.names.of((key.process, key.tid));
            (key.tid, name)
        });
        Root {
            frames: group::frames(
                &self.groups,
                &Owner::new(&known.identity, known.version.is_some()),
                thread,
            ),
            with_stack: true,
        }
    }
}
