use proptest::prelude::*;

use super::*;

/// As long as a real one: reference, noise key, identity key and secret.
const CODE: &str = "2@JcWcv8T0Qm0rZ4Ck2oYxWn9gVb7uHf1LqSdPeAiM3tKzXyBwN5jRhGvUoFlEsDaQ6,\
    6f1OaBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789+/a=,Zyxwvutsrqponmlkjihgfedcba9876543210+/ABCD=,\
    QWERTYuiopASDFghjklZXCVbnm0123456789+/qwert=";

async fn render(code: &str, format: Format, layout: Layout) -> Bytes {
    Renderer::default().render(code, format, layout).await.unwrap()
}

/// Reads an image as a phone's camera would.
fn scan(png: &[u8]) -> String {
    let image = image::load_from_memory(png).unwrap().to_luma8();
    let (width, height) = image.dimensions();
    let mut prepared =
        rqrr::PreparedImage::prepare_from_greyscale(width as usize, height as usize, |x, y| {
            image.get_pixel(u32::try_from(x).unwrap(), u32::try_from(y).unwrap()).0[0]
        });
    let grids = prepared.detect_grids();
    assert_eq!(grids.len(), 1);
    grids[0].decode().unwrap().1
}

/// Draws modules ten pixels wide, so that there is something to scan, and reads them.
fn scan_modules(rows: &[Vec<bool>]) -> String {
    let width = u32::try_from(rows.len() * 10).unwrap();
    let image = image::GrayImage::from_fn(width, width, |x, y| {
        image::Luma([if rows[y as usize / 10][x as usize / 10] { 0 } else { 255 }])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    scan(png.get_ref())
}

#[tokio::test]
async fn a_png_reads_back_as_the_code() {
    let png = render(CODE, Format::Png, Layout::default()).await;
    assert_eq!(scan(&png), CODE);
    let image = image::load_from_memory(&png).unwrap();
    assert_eq!((image.width(), image.height()), (360, 360));
}

#[tokio::test]
async fn every_allowed_size_can_be_scanned() {
    for size in [128, 200, 361, 1000, 2048] {
        let png = render(CODE, Format::Png, Layout { size, margin: 4 }).await;
        assert_eq!(scan(&png), CODE, "{size}");
    }
}

#[tokio::test]
async fn a_data_url_is_the_same_image() {
    let url = render(CODE, Format::DataUrl, Layout::default()).await;
    let url = std::str::from_utf8(&url).unwrap();
    let png = STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
    assert_eq!(scan(&png), CODE);
}

#[tokio::test]
async fn terminal_blocks_are_the_same_symbol() {
    let text = render(CODE, Format::Text, Layout::default()).await;
    let text = std::str::from_utf8(&text).unwrap();
    let mut rows: Vec<Vec<bool>> = Vec::new();
    for line in text.lines() {
        let half = |light: [char; 2]| line.chars().map(|c| !light.contains(&c)).collect();
        rows.push(half(['█', '▀']));
        rows.push(half(['█', '▄']));
    }
    let width = rows[0].len();
    rows.truncate(width);
    assert_eq!(scan_modules(&rows), CODE);
}

#[tokio::test]
async fn an_svg_is_the_same_symbol() {
    let svg = render(CODE, Format::Svg, Layout { size: 200, margin: 4 }).await;
    let svg = std::str::from_utf8(&svg).unwrap();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let width = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().map(number).unwrap();
    let mut rows = vec![vec![false; width]; width];
    let path = svg.split("fill=\"#000\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    for run in path.split('M').skip(1) {
        // `x yhlengthv1h-lengthz`
        let (place, rest) = run.split_once('h').unwrap();
        let (x, y) = place.split_once(' ').unwrap();
        let length = number(rest.split('v').next().unwrap());
        rows[number(y)][number(x)..][..length].fill(true);
    }
    assert_eq!(scan_modules(&rows), CODE);
}

#[tokio::test]
async fn too_long_a_code_is_an_error() {
    let code = "x".repeat(4000);
    let outcome = Renderer::default().render(&code, Format::Png, Layout::default()).await;
    assert!(matches!(outcome, Err(Error::Symbol(_))));
}

#[test]
fn tags_differ_by_everything_that_differs() {
    let layout = Layout::default();
    let wider = Layout { margin: 5, ..layout };
    let tags = [
        Renderer::etag(CODE, Format::Png, layout),
        Renderer::etag(CODE, Format::Svg, layout),
        Renderer::etag(CODE, Format::Png, wider),
        Renderer::etag("another", Format::Png, layout),
    ];
    let different: std::collections::HashSet<_> = tags.iter().collect();
    assert_eq!(different.len(), tags.len());
    assert_eq!(tags[0], Renderer::etag(CODE, Format::Png, layout));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_code_reads_back(code in "[ -~]{1,400}") {
        let png = draw(&code, Format::Png, Layout::default()).unwrap();
        prop_assert_eq!(scan(&png), code);
    }
}
