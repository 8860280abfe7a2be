//! Names of functions, in the way that two tools can be compared.

/// A function's name without what tools write in different ways: its arguments and return type,
/// the hash of Rust's symbols, the suffix of a part that the compiler made of it, its version, and
/// spaces.
#[must_use]
pub fn plain(name: &str) -> String {
    let name = name.split(" [clone ").next().unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    without_suffixes(&without_arguments(&without_hashes(name))).to_owned()
}

/// Without the hash of a crate, `name[9b2ab94dc3a7f68f]`.
fn without_hashes(name: &str) -> String {
    let mut plain = String::new();
    let mut pieces = name.split('[');
    plain.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match piece.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => plain.push_str(rest),
            _ => {
                plain.push('[');
                plain.push_str(piece);
            }
        }
    }
    plain
}

fn is_hash(text: &str) -> bool {
    text.len() >= 15 && text.chars().all(|digit| digit.is_ascii_hexdigit())
}

/// Without return type, arguments and `const`, wherever they are: `int f<2>(long) const::g(int)` is
/// `f<2>::g`.
fn without_arguments(name: &str) -> String {
    let mut plain = String::new();
    let mut depth = 0_u32;
    let mut rest = name;
    while let Some(next) = rest.chars().next() {
        let kept = [
            "operator()",
            "operator<<",
            "operator<",
            "operator->",
            "(anonymous namespace)",
        ]
        .into_iter()
        .find(|kept| rest.starts_with(kept));
        if let Some(kept) = kept {
            plain.push_str(kept);
            rest = &rest[kept.len()..];
            continue;
        }
        if next == '(' && depth == 0 {
            rest = after_parenthesis(rest);
            // A local function goes on; what else follows is a qualifier.
            let Some(local) = rest.find("::").filter(|at| !rest[..*at].contains('<')) else {
                break;
            };
            rest = &rest[local..];
            continue;
        }
        match next {
            '<' | '{' => depth += 1,
            '>' | '}' => depth = depth.saturating_sub(1),
            // Not of a type in angle brackets, as in Rust's `<T as Trait>::f`.
            ' ' if depth == 0 => plain.clear(),
            _ => {}
        }
        if next != ' ' {
            plain.push(next);
        }
        rest = &rest[next.len_utf8()..];
    }
    plain
}

/// What follows the parenthesis that the text begins with.
fn after_parenthesis(text: &str) -> &str {
    let mut depth = 0_u32;
    for (at, next) in text.char_indices() {
        match next {
            '(' => depth += 1,
            ')' if depth == 1 => return &text[at + 1..],
            ')' => depth -= 1,
            _ => {}
        }
    }
    ""
}

fn without_suffixes(name: &str) -> &str {
    let mut name = name;
    while let Some((start, last)) = name.rsplit_once('.') {
        let is_suffix = last == "cold"
            || last == "part"
            || last == "constprop"
            || last == "isra"
            || last == "lto_priv"
            || !last.is_empty() && last.chars().all(|digit| digit.is_ascii_digit());
        if !is_suffix || start.is_empty() {
            break;
        }
        name = start;
    }
    match name.rsplit_once("::h") {
        Some((start, hash)) if is_hash(hash) => start,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn names_of_two_tools_are_one() {
        for (name, is) in [
            ("spin", "spin"),
            ("spin()", "spin"),
            ("region._omp_fn.0", "region._omp_fn"),
            ("rethrows(long) [clone .cold]", "rethrows"),
            ("work.constprop.0.isra.3", "work"),
            ("__libc_start_main@@GLIBC_2.34", "__libc_start_main"),
            (
                "int some::f<int, 2>(std::map<int, long> const&) const",
                "some::f<int,2>",
            ),
            (
                "some::f<std::vector<int, std::allocator<int> >, 5>::down()",
                "some::f<std::vector<int,std::allocator<int>>,5>::down",
            ),
            (
                "some::called(Base&)::{lambda(int const&)#1}::operator()(int) const",
                "some::called::{lambda(intconst&)#1}::operator()",
            ),
            ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
            ("generic::spin::hf29d4eee0fc30f2a", "generic::spin"),
            (
                "<generic::Wrap<T> as generic::Down>::down::h1f80489876ef71d4",
                "<generic::Wrap<T>asgeneric::Down>::down",
            ),
            (
                "generic::dropped::{{closure}}",
                "generic::dropped::{{closure}}",
            ),
        ] {
            assert_eq!(plain(name), is);
        }
    }
}
