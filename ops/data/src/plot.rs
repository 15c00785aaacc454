//! Images for reports, as PNG: a contact sheet of pairs, and line charts. The same input gives the
//! same bytes.

mod canvas;
mod chart;
mod sheet;

pub use self::chart::{Series, line_chart};
pub use self::sheet::{SheetEntry, contact_sheet};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Picture;

    #[test]
    fn any_input_gives_a_png_with_the_same_bytes_each_time() {
        let entry = SheetEntry {
            picture: Picture {
                width: 2,
                height: 2,
                rgb: vec![9; 12],
            },
            text: "\u{1b}[31m x".to_owned(),
            source: "web".to_owned(),
            score: Some(0.5),
            kept: true,
        };
        let sheet = contact_sheet("pairs", std::slice::from_ref(&entry));
        assert_eq!(sheet, contact_sheet("pairs", &[entry]));
        let series = Series {
            name: "loss".to_owned(),
            points: vec![(0.0, f64::NAN), (1.0, 2.0), (2.0, 1.0)],
        };
        for bytes in [
            sheet,
            line_chart("t", "step", &[series]),
            line_chart("t", "step", &[]),
            contact_sheet("none", &[]),
        ] {
            assert!(bytes.starts_with(b"\x89PNG"));
        }
    }
}
