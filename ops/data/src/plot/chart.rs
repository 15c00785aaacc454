//! Line charts: a title, axes with ticks, a legend.

use image::{Rgb, RgbImage};

use super::canvas::{
    BLACK, CHARACTER, GRAY, LIGHT_GRAY, WHITE, draw_line, draw_text, fill, to_png,
};

const SIZE: (u32, u32) = (860, 420);
/// Space around the plot: left, top, right, bottom.
const BORDER: (u32, u32, u32, u32) = (76, 52, 170, 48);
const PLOT: (u32, u32) = (SIZE.0 - BORDER.0 - BORDER.2, SIZE.1 - BORDER.1 - BORDER.3);
/// Colours that people with colour vision deficiencies can distinguish (Okabe and Ito).
const COLORS: [Rgb<u8>; 6] = [
    Rgb([0, 114, 178]),
    Rgb([230, 159, 0]),
    Rgb([0, 158, 115]),
    Rgb([204, 121, 167]),
    Rgb([213, 94, 0]),
    Rgb([86, 180, 233]),
];

/// A line of a chart.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Ascending by x. Points that are not finite are not drawn.
    pub points: Vec<(f64, f64)>,
}

/// A chart of all series. The y axis includes 0.
pub fn line_chart(title: &str, x_label: &str, series: &[Series]) -> Vec<u8> {
    let mut chart = RgbImage::from_pixel(SIZE.0, SIZE.1, WHITE);
    let points: Vec<(f64, f64)> = series.iter().flat_map(finite_points).collect();
    let (x_low, x_high) = range(points.iter().map(|(x, _)| *x));
    let (y_low, y_high) = range(points.iter().map(|(_, y)| *y));
    let x = Axis::new(x_low, x_high);
    let y = Axis::new(y_low.min(0.0), y_high);
    let (left, top, ..) = BORDER;
    draw_text(&mut chart, (left, 18), title, BLACK, 2);
    draw_y_axis(&mut chart, &y);
    draw_x_axis(&mut chart, &x, x_label);
    fill(&mut chart, (left, top + PLOT.1), (PLOT.0, 1), BLACK);
    fill(&mut chart, (left, top), (1, PLOT.1), BLACK);
    for (row, series) in (0_u32..).zip(series) {
        let color = COLORS[row as usize % COLORS.len()];
        draw_series(&mut chart, series, (&x, &y), color);
        draw_legend(&mut chart, series, row, color);
    }
    to_png(&chart)
}

fn finite_points(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    let points = series.points.iter().copied();
    points.filter(|(x, y)| x.is_finite() && y.is_finite())
}

/// The lowest and the highest value; infinite if there is none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let empty = (f64::INFINITY, f64::NEG_INFINITY);
    values.fold(empty, |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

fn draw_y_axis(chart: &mut RgbImage, axis: &Axis) {
    let (left, top, ..) = BORDER;
    for tick in axis.ticks() {
        let y = top + PLOT.1 - to_pixels(axis.fraction(tick), PLOT.1);
        fill(chart, (left, y), (PLOT.0, 1), LIGHT_GRAY);
        let label = format_tick(tick);
        let label_x = left.saturating_sub(text_width(&label) + 8);
        draw_text(chart, (label_x, y.saturating_sub(4)), &label, GRAY, 1);
    }
}

fn draw_x_axis(chart: &mut RgbImage, axis: &Axis, name: &str) {
    let (left, top, ..) = BORDER;
    let bottom = top + PLOT.1;
    for tick in axis.ticks() {
        let x = left + to_pixels(axis.fraction(tick), PLOT.0);
        fill(chart, (x, bottom), (1, 5), BLACK);
        let label = format_tick(tick);
        let label_x = x.saturating_sub(text_width(&label) / 2);
        draw_text(chart, (label_x, bottom + 10), &label, GRAY, 1);
    }
    draw_text(chart, (left + PLOT.0 / 2, bottom + 26), name, GRAY, 1);
}

fn draw_series(chart: &mut RgbImage, series: &Series, (x, y): (&Axis, &Axis), color: Rgb<u8>) {
    let (left, top, ..) = BORDER;
    let mut previous = None;
    for point in finite_points(series) {
        let place = (
            f64::from(left) + x.fraction(point.0) * f64::from(PLOT.0),
            f64::from(top + PLOT.1) - y.fraction(point.1) * f64::from(PLOT.1),
        );
        if let Some(previous) = previous {
            draw_line(chart, previous, place, color);
        }
        previous = Some(place);
    }
}

/// The name of the series and its last value.
fn draw_legend(chart: &mut RgbImage, series: &Series, row: u32, color: Rgb<u8>) {
    let (left, top, ..) = BORDER;
    let (x, y) = (left + PLOT.0 + 20, top + row * 18);
    fill(chart, (x, y + 3), (18, 3), color);
    let last = series.points.last();
    let value = last.map_or(String::new(), |(_, y)| format!(" {y:.3}"));
    let text = format!("{}{value}", series.name);
    draw_text(chart, (x + 26, y), &text, BLACK, 1);
}

/// A range of values, widened to whole ticks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn new(low: f64, high: f64) -> Self {
        let (low, high) = if low.is_finite() && high.is_finite() {
            (low, high)
        } else {
            (0.0, 1.0)
        };
        let high = if high > low { high } else { low + 1.0 };
        // About five ticks, at multiples of 1, 2 or 5 times a power of ten.
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as u32;
        let (low, step) = (self.low, self.step);
        (0..=count).map(move |tick| low + f64::from(tick) * step)
    }

    /// 0 at the low end, 1 at the high end.
    fn fraction(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

fn to_pixels(fraction: f64, length: u32) -> u32 {
    (fraction.clamp(0.0, 1.0) * f64::from(length)).round() as u32
}

fn text_width(text: &str) -> u32 {
    text.len() as u32 * CHARACTER
}

fn format_tick(value: f64) -> String {
    if value.abs() >= 10_000.0 {
        return format!("{}k", value / 1000.0);
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
