//! Flame graphs, drawn by inferno: root on top, as py-spy draws them.

use std::collections::BTreeMap;

use inferno::flamegraph::color::{
    BackgroundColor, BasicPalette, Color, Palette, PaletteMap, parse_hex_color,
};
use inferno::flamegraph::{self, Direction, Options, TextTruncateDirection};
use profiler_common::cause::Cause;

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

/// Draws folded lines. Without any, the picture says so.
///
/// # Errors
/// [`FlamegraphError`].
pub fn draw(
    lines: &BTreeMap<String, u64>,
    title: &str,
    subtitle: &str,
    subject: Subject,
) -> Result<Vec<u8>, FlamegraphError> {
    if lines.is_empty() {
        return Ok(empty(title, subtitle).into_bytes());
    }
    let mut options = Options::default();
    options.title = title.to_owned();
    options.subtitle = Some(subtitle.to_owned());
    options.direction = Direction::Inverted;
    options.min_width = 0.1;
    options.hash = true;
    // A name says more than the end of its file's.
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.count_name = match subject {
        Subject::OnCpu => "samples".to_owned(),
        Subject::OffCpu | Subject::Wall => "microseconds".to_owned(),
    };
    let mut causes = cause_colors();
    match subject {
        Subject::OnCpu => options.colors = Palette::Basic(BasicPalette::Hot),
        Subject::OffCpu => {
            options.colors = Palette::Basic(BasicPalette::Blue);
            options.bgcolors = Some(BackgroundColor::Blue);
            options.palette_map = Some(&mut causes);
        }
        Subject::Wall => {
            options.colors = Palette::Basic(BasicPalette::Hot);
            options.palette_map = Some(&mut causes);
        }
    }
    let text: Vec<String> = lines
        .iter()
        .map(|(stack, weight)| format!("{stack} {weight}"))
        .collect();
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, text.iter().map(String::as_str), &mut svg)
        .map_err(|error| FlamegraphError(error.to_string()))?;
    Ok(svg)
}

/// Causes look the same in every picture, and unlike functions: those that keep threads from work
/// that they have are strong, those of threads that may have none are pale.
fn cause_colors() -> PaletteMap {
    let mut colors = PaletteMap::default();
    for cause in Cause::ALL {
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
        if let Some(color) = parse_hex_color(color) {
            let _new: Option<Color> = colors.insert(cause.frame(), color);
        }
    }
    colors
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
    use super::*;

    #[test]
    fn an_empty_profile_is_a_picture_that_says_so() {
        let svg = draw(&BTreeMap::new(), "a <b>", "", Subject::OnCpu).expect("a picture");
        let text = String::from_utf8(svg).expect("text");
        assert!(text.contains("Nothing was recorded") && text.contains("a &lt;b&gt;"));
    }

    #[test]
    fn every_cause_has_a_color() {
        let colors = cause_colors();
        let distinct: std::collections::BTreeSet<_> = Cause::ALL
            .iter()
            .map(|cause| colors.get(cause.frame()).map(|color| color.to_string()))
            .collect();
        assert_eq!(distinct.len(), Cause::ALL.len());
        assert!(!distinct.contains(&None));
    }

    #[test]
    fn frames_and_weights_are_in_the_picture() {
        let lines = BTreeMap::from([("root (a.py:1);leaf (a.py:2)".to_owned(), 7)]);
        let svg = draw(&lines, "title", "", Subject::OnCpu).expect("a picture");
        let text = String::from_utf8(svg).expect("text");
        assert!(text.contains("leaf (a.py:2)") && text.contains("7 samples"));
    }
}
