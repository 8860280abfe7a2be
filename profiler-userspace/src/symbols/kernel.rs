//! Names of kernel code, from `/proc/kallsyms`.

use std::collections::HashMap;
use std::sync::Arc;

use super::alias::preference;
use super::frame::KernelFrame;
use super::intern::Interner;

/// What to do about [`KernelSymbols::is_hidden`].
pub const HIDDEN: &str = "the kernel hides its addresses: kernel frames have no names; \
     run as root, or set `sysctl kernel.kptr_restrict=0`";

/// How far the last function of a module reaches at most: its end is not told, and what comes
/// behind it may be anything.
const MAX_LAST: u64 = 64 << 10;

/// A function.
#[derive(Debug)]
struct Function {
    start: u64,
    name: String,
    module: Option<Arc<str>>,
}

/// The functions of the running kernel, by address.
#[derive(Debug, Default)]
pub struct KernelSymbols {
    functions: Vec<Function>,
    hidden: bool,
}

impl KernelSymbols {
    /// Reads `/proc/kallsyms`; no functions when that is not possible.
    #[must_use]
    pub fn of_system() -> Self {
        std::fs::read("/proc/kallsyms").map_or_else(
            |_| Self {
                functions: Vec::new(),
                hidden: true,
            },
            |text| Self::parse(&String::from_utf8_lossy(&text)),
        )
    }

    /// Parses lines of `address type name [module]`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut modules = HashMap::<&str, Arc<str>>::new();
        let mut functions = Vec::new();
        let mut zeros = false;
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(start), Some(kind), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if !matches!(kind, "t" | "T" | "w" | "W") {
                continue;
            }
            let Ok(start) = u64::from_str_radix(start, 16) else {
                continue;
            };
            if start == 0 {
                zeros = true;
                continue;
            }
            let module = fields
                .next()
                .and_then(|field| field.strip_prefix('[')?.strip_suffix(']'));
            functions.push((
                Function {
                    start,
                    name: name.to_owned(),
                    module: module.map(|module| {
                        Arc::clone(modules.entry(module).or_insert_with(|| Arc::from(module)))
                    }),
                },
                kind != "t",
            ));
        }
        functions.sort_by(|(a, a_exported), (b, b_exported)| {
            let best_first = || {
                preference(b.name.as_bytes(), *b_exported)
                    .cmp(&preference(a.name.as_bytes(), *a_exported))
            };
            a.start.cmp(&b.start).then_with(best_first)
        });
        functions.dedup_by_key(|(function, _)| function.start);
        Self {
            hidden: functions.is_empty() && zeros,
            functions: functions
                .into_iter()
                .map(|(function, _)| function)
                .collect(),
        }
    }

    /// Whether the kernel keeps its addresses from us.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Names an address.
    pub(super) fn find(&self, address: u64, strings: &mut Interner) -> KernelFrame {
        let unknown = KernelFrame {
            name: None,
            start: 0,
            size: None,
            module: None,
        };
        let behind = self
            .functions
            .partition_point(|function| function.start <= address);
        let Some(function) = behind.checked_sub(1).and_then(|i| self.functions.get(i)) else {
            return unknown;
        };
        let size = self
            .functions
            .get(behind)
            .filter(|next| next.module == function.module)
            .map(|next| next.start - function.start);
        if size.is_none() && address - function.start >= MAX_LAST {
            return unknown;
        }
        KernelFrame {
            name: Some(strings.get(&function.name)),
            start: function.start,
            size,
            module: function.module.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0000000000012340 A fixed_percpu_data\n\
        ffffffff81000000 T _stext\n\
        ffffffff81000000 T _text\n\
        ffffffff81000100 t __schedule\n\
        ffffffff81000900 T schedule\n\
        ffffffff81000980 D some_data\n\
        ffffffff81000a00 T _etext\n\
        ffffffffc0200000 t nft_do_chain\t[nf_tables]\n\
        nonsense\n\
        ffffffffc0300000 t bpf_prog_6deef7357e7b4530_on_cpu\t[bpf]\n";

    fn text(symbols: &KernelSymbols, address: u64) -> String {
        super::super::text::kernel(&symbols.find(address, &mut Interner::default())).to_string()
    }

    #[test]
    fn functions_of_image_and_modules() {
        let symbols = KernelSymbols::parse(TEXT);
        assert!(!symbols.is_hidden());
        assert_eq!(text(&symbols, 0xffff_ffff_8100_0905), "schedule ([kernel])");
        assert_eq!(
            text(&symbols, 0xffff_ffff_8100_08ff),
            "__schedule ([kernel])"
        );
        assert_eq!(text(&symbols, 0xffff_ffff_8100_0000), "_text ([kernel])");
        let of_module = 0xffff_ffff_c020_0010;
        assert_eq!(text(&symbols, of_module), "nft_do_chain ([nf_tables])");
        assert_eq!(text(&symbols, 0xffff_ffff_c02f_0000), "[kernel]");
        assert_eq!(text(&symbols, 0x1000), "[kernel]");
        let frame = symbols.find(0xffff_ffff_8100_0905, &mut Interner::default());
        assert_eq!(
            (frame.start, frame.size),
            (0xffff_ffff_8100_0900, Some(0x100))
        );
    }

    #[test]
    fn hidden_addresses_are_told() {
        let symbols = KernelSymbols::parse("0000000000000000 T schedule\n");
        assert!(symbols.is_hidden());
        assert_eq!(text(&symbols, 0xffff_ffff_8100_0905), "[kernel]");
    }
}
