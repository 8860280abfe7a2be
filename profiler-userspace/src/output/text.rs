//! Text of targets and command lines, made fit for one line of a message, a format or a picture.

/// Control characters, line ends among them, become spaces, and so do the two other characters that
/// XML cannot hold (`Char` in XML 1.0, 2.2): a terminal obeys the ones, no picture opens with the
/// others.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{fffe}' | '\u{ffff}' => ' ',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

/// What separates frames and lines in the folded format cannot be part of a name.
pub(crate) fn clean(text: &str) -> String {
    one_line(text).replace(';', ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_becomes_space() {
        assert_eq!(one_line("a\nb\u{1}\u{85}c\u{ffff}é工"), "a b  c é工");
    }
}
