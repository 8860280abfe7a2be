//! Flame graphs, drawn by inferno: root on top, as py-spy draws them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use inferno::flamegraph::color::{
    BackgroundColor, BasicPalette, Color, Palette, PaletteMap, parse_hex_color,
};
use inferno::flamegraph::{self, Direction, Options, TextTruncateDirection};
use profiler_common::cause::Cause;

use super::view::FrameKind;

/// What a picture is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Samples of time on the CPUs.
    OnCpu,
    /// Time off the CPUs.
    OffCpu,
    /// All time.
    Wall,
}

/// inferno could not draw.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the flame graph: {0}")]
pub struct FlamegraphError(String);

/// A title that does not run into the word for searching at its right.
fn short(title: &str) -> String {
    const MOST: usize = 104;
    match title.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", title.get(..end).unwrap_or(title)),
        None => title.to_owned(),
    }
}

/// Draws folded lines. `kinds` says what their frames are, by their text; one that is not there is
/// drawn as Python. Without any line, the picture says so.
///
/// # Errors
/// [`FlamegraphError`].
pub fn draw(
    lines: &BTreeMap<String, u64>,
    kinds: &BTreeMap<String, FrameKind>,
    title: &str,
    subtitle: &str,
    subject: Subject,
) -> Result<Vec<u8>, FlamegraphError> {
    if lines.is_empty() {
        return Ok(empty(title, subtitle).into_bytes());
    }
    let mut colors = colors(lines, kinds);
    let mut options = Options::default();
    options.title = short(title);
    options.subtitle = Some(subtitle.to_owned());
    options.direction = Direction::Inverted;
    options.min_width = 0.1;
    // A name says more than the end of its file's.
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.count_name = match subject {
        Subject::OnCpu => "samples".to_owned(),
        Subject::OffCpu | Subject::Wall => "microseconds".to_owned(),
    };
    // Of the frame of all, which has no text.
    options.colors = Palette::Basic(BasicPalette::Hot);
    options.hash = true;
    options.bgcolors = (subject == Subject::OffCpu).then_some(BackgroundColor::Blue);
    options.palette_map = Some(&mut colors);
    // inferno sorts lines with their weights, and does not take what comes out where a frame
    // begins as another does: `f (a.py:1) 5` would stand before `f 10`.
    options.no_sort = true;
    let mut fit: BTreeMap<Cow<'_, str>, u64> = BTreeMap::new();
    for (stack, weight) in lines {
        *fit.entry(fit_for_inferno(stack)).or_default() += weight;
    }
    let text: Vec<String> = fit
        .iter()
        .map(|(stack, weight)| format!("{stack} {weight}"))
        .collect();
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, text.iter().map(String::as_str), &mut svg)
        .map_err(|error| FlamegraphError(error.to_string()))?;
    Ok(with_legend(svg, lines, kinds))
}

/// Says which colours are whose, at the right below the subtitle, where there are several; causes have
/// their names on them. inferno has no such thing: it goes in front of the line of what is pointed at.
fn with_legend(
    mut svg: Vec<u8>,
    lines: &BTreeMap<String, u64>,
    kinds: &BTreeMap<String, FrameKind>,
) -> Vec<u8> {
    const BEFORE: &[u8] = b"<text id=\"details\"";
    let kind_of = |text: &str| kinds.get(text).copied().unwrap_or(FrameKind::Python);
    let found: HashSet<FrameKind> = lines
        .keys()
        .flat_map(|stack| stack.split(';').map(kind_of))
        .collect();
    let named: Vec<String> = [FrameKind::Python, FrameKind::Native, FrameKind::Kernel]
        .into_iter()
        .filter(|kind| found.contains(kind))
        .map(|kind| {
            let (_, Color { r, g, b }) = shades(kind);
            format!("<tspan fill=\"rgb({r},{g},{b})\">■</tspan> {}", kind.word())
        })
        .collect();
    let place = svg.windows(BEFORE.len()).position(|part| part == BEFORE);
    if let (Some(place), 2..) = (place, named.len()) {
        let legend = format!(
            "<text id=\"legend\" x=\"100%\" dx=\"-10\" y=\"64\" text-anchor=\"end\">{}</text>\n",
            named.join("&#160; ")
        );
        svg.splice(place..place, legend.into_bytes());
    }
    svg
}

/// A stack as inferno takes it for one. It would read a number behind the last space as a second
/// weight, `# ` at the beginning as a comment, and nothing but spaces as no stack.
fn fit_for_inferno(stack: &str) -> Cow<'_, str> {
    const SPACE: &str = "\u{a0}";
    let number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '.');
    // inferno does so, too: here the order of the lines is that of what it sees.
    let mut fit = Cow::Borrowed(stack.trim());
    if fit.is_empty() {
        return Cow::Borrowed("(no name)");
    }
    if let Some((front, last)) = fit.rsplit_once(' ').filter(|(_, last)| number(last)) {
        fit = Cow::Owned(format!("{front}{SPACE}{last}"));
    }
    if let Some(rest) = fit.strip_prefix("# ") {
        fit = Cow::Owned(format!("#{SPACE}{rest}"));
    }
    fit
}

/// The colours of all frames of the lines.
fn colors(lines: &BTreeMap<String, u64>, kinds: &BTreeMap<String, FrameKind>) -> PaletteMap {
    let mut colors = PaletteMap::default();
    for stack in lines.keys() {
        for text in stack.split(';') {
            let kind = kinds.get(text).copied().unwrap_or(FrameKind::Python);
            let _new: Option<Color> = colors.insert(text, color(kind, text));
        }
        // What was changed for inferno stands at one of the ends.
        let fit = fit_for_inferno(stack);
        if fit != *stack {
            for (text, shown) in stack.split(';').zip(fit.split(';')) {
                let kind = kinds.get(text).copied().unwrap_or(FrameKind::Python);
                let _new: Option<Color> = colors.insert(shown, color(kind, text));
            }
        }
    }
    // Last: a function may be called as a cause is.
    for cause in Cause::ALL {
        let _new: Option<Color> = colors.insert(cause.frame(), cause_color(cause));
    }
    colors
}

/// The colours of a kind lie between these two.
fn shades(kind: FrameKind) -> (Color, Color) {
    let (from, to) = match kind {
        FrameKind::Python => ((255, 222, 112), (244, 158, 66)),
        FrameKind::Native => ((196, 226, 156), (140, 196, 124)),
        FrameKind::Kernel => ((240, 150, 130), (224, 108, 96)),
        FrameKind::Waiting => ((191, 191, 191), (191, 191, 191)),
        FrameKind::Marker => ((222, 216, 208), (208, 201, 192)),
    };
    let color = |(r, g, b)| Color { r, g, b };
    (color(from), color(to))
}

/// A function has the same colour in every picture, one of those of its kind.
fn color(kind: FrameKind, text: &str) -> Color {
    let (from, to) = shades(kind);
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let part = hasher.finish() % 256;
    let mix = |from: u8, to: u8| {
        let (from, to) = (i64::from(from), i64::from(to));
        (from + (to - from) * part as i64 / 255) as u8
    };
    Color {
        r: mix(from.r, to.r),
        g: mix(from.g, to.g),
        b: mix(from.b, to.b),
    }
}

/// Causes look the same in every picture, and unlike functions: those that keep threads from work
/// that they have are strong, those of threads that may have none are pale.
fn cause_color(cause: Cause) -> Color {
    let color = match cause {
        Cause::Gil => "#b04fd6",
        Cause::Lock => "#7a5fe0",
        Cause::RunQueue => "#3f8f4f",
        Cause::Disk => "#a5713d",
        Cause::PageFault => "#8f6a4a",
        Cause::Stopped => "#6b6b6b",
        Cause::Network => "#8fb8de",
        Cause::Pipe => "#9fc6cf",
        Cause::Poll => "#b9cbe0",
        Cause::Sleep => "#c9d3dd",
        Cause::Child => "#a9c3b6",
        Cause::Other => "#bfbfbf",
    };
    let grey = Color {
        r: 191,
        g: 191,
        b: 191,
    };
    parse_hex_color(color).unwrap_or(grey)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn empty(title: &str, subtitle: &str) -> String {
    format!(
        concat!(
            "<?xml version=\"1.0\" standalone=\"no\"?>\n",
            "<svg version=\"1.1\" width=\"1200\" height=\"120\" viewBox=\"0 0 1200 120\" ",
            "xmlns=\"http://www.w3.org/2000/svg\">\n",
            "<rect width=\"100%\" height=\"100%\" fill=\"#f8f8f8\"/>\n",
            "<g font-family=\"monospace\" text-anchor=\"middle\">\n",
            "<text x=\"600\" y=\"30\" font-size=\"17\">{}</text>\n",
            "<text x=\"600\" y=\"55\" font-size=\"12\" fill=\"#606060\">{}</text>\n",
            "<text x=\"600\" y=\"90\" font-size=\"14\">Nothing was recorded.</text>\n",
            "</g>\n</svg>\n"
        ),
        escape(title),
        escape(subtitle)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::text::one_line;
    use crate::output::{from_view, sample};

    fn picture(lines: &[(&str, u64)], kinds: &[(&str, FrameKind)]) -> String {
        let lines = lines
            .iter()
            .map(|(line, weight)| ((*line).to_owned(), *weight));
        let kinds = kinds.iter().map(|(text, kind)| ((*text).to_owned(), *kind));
        let (lines, kinds) = (lines.collect(), kinds.collect());
        let svg = draw(&lines, &kinds, "a <b>", "", Subject::OnCpu).expect("a picture");
        String::from_utf8(svg).expect("text")
    }

    #[test]
    fn an_empty_profile_is_a_picture_that_says_so() {
        let text = picture(&[], &[]);
        assert!(text.contains("Nothing was recorded") && text.contains("a &lt;b&gt;"));
    }

    #[test]
    fn every_cause_and_kind_has_a_color() {
        let causes = Cause::ALL.iter().map(|cause| cause_color(*cause));
        let kinds = FrameKind::ALL
            .iter()
            .filter(|kind| **kind != FrameKind::Waiting);
        let kinds = kinds.map(|kind| color(*kind, "f"));
        let all: std::collections::BTreeSet<String> =
            causes.chain(kinds).map(|color| color.to_string()).collect();
        assert_eq!(all.len(), Cause::ALL.len() + FrameKind::ALL.len() - 1);
    }

    #[test]
    fn frames_and_weights_are_in_the_picture() {
        let text = picture(&[("root (a.py:1);leaf (a.py:2)", 7)], &[]);
        assert!(text.contains("leaf (a.py:2)") && text.contains("7 samples"));
    }

    #[test]
    fn a_frame_has_the_color_of_its_kind() {
        let text = picture(&[("root;memcpy", 7)], &[("memcpy", FrameKind::Native)]);
        let native = color(FrameKind::Native, "memcpy");
        assert!(text.contains(&format!("rgb({},{},{})", native.r, native.g, native.b)));
    }

    #[test]
    fn a_legend_names_the_kinds_that_are_there() {
        let kinds = [("memcpy", FrameKind::Native), ("read", FrameKind::Kernel)];
        let named = |lines| {
            let text = picture(lines, &kinds);
            ["Python", "Native", "Kernel"].map(|name| text.contains(&format!("■</tspan> {name}")))
        };
        assert_eq!(named(&[("root;memcpy", 7)]), [true, true, false]);
        assert_eq!(named(&[("memcpy;read", 7)]), [false, true, true]);
        // One needs no name.
        assert_eq!(named(&[("root;leaf", 7)]), [false; 3]);
    }

    #[test]
    fn names_with_numbers_and_spaces_lose_no_weight() {
        let lines = [
            ("# a;b", 1),
            ("f", 10),
            ("f (a.py:1)", 20),
            ("f #1", 40),
            ("worker 12", 80),
            ("worker 12 13", 160),
            (" ;x ", 320),
            ("", 640),
        ];
        let text = picture(&lines, &[]);
        assert!(text.contains("1,271 samples, 100%"), "{text}");
        assert!(
            text.contains("worker\u{a0}12 (80 samples, 6.29%)"),
            "{text}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_name_is_drawn_with_its_weight(
            odd in proptest::collection::vec("[ -~;#0-9 \\.\u{a0}\u{2003}é\n]{0,12}", 1..8),
        ) {
            let view = sample::named(&odd);
            let (lines, kinds) = (from_view::folded(&view), from_view::kinds(&view));
            let about = &view.about;
            let (title, subtitle) = (one_line(&about.title), one_line(&about.subtitle));
            let svg = draw(&lines, &kinds, &title, &subtitle, about.subject).expect("a picture");
            let text = String::from_utf8(svg).expect("text");
            let all: u64 = from_view::folded(&view).values().sum();
            let all = format!("fg:x=\"0\" fg:w=\"{all}\"");
            prop_assert!(text.contains(&all), "{}", all);
        }
    }
}
