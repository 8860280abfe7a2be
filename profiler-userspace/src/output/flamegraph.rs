//! Flame graphs, drawn by inferno: root on top, as py-spy draws them.

use std::collections::BTreeMap;

use inferno::flamegraph::color::{BackgroundColor, BasicPalette, Palette};
use inferno::flamegraph::{self, Direction, Options, TextTruncateDirection};

use crate::record::profile::Unit;

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
    unit: Unit,
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
    match unit {
        Unit::Samples => {
            options.count_name = "samples".to_owned();
            options.colors = Palette::Basic(BasicPalette::Hot);
        }
        Unit::Time => {
            options.count_name = "microseconds".to_owned();
            options.colors = Palette::Basic(BasicPalette::Blue);
            options.bgcolors = Some(BackgroundColor::Blue);
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
        let svg = draw(&BTreeMap::new(), "a <b>", "", Unit::Samples).expect("a picture");
        let text = String::from_utf8(svg).expect("text");
        assert!(text.contains("Nothing was recorded") && text.contains("a &lt;b&gt;"));
    }

    #[test]
    fn frames_and_weights_are_in_the_picture() {
        let lines = BTreeMap::from([("root (a.py:1);leaf (a.py:2)".to_owned(), 7)]);
        let svg = draw(&lines, "title", "", Unit::Samples).expect("a picture");
        let text = String::from_utf8(svg).expect("text");
        assert!(text.contains("leaf (a.py:2)") && text.contains("7 samples"));
    }
}
