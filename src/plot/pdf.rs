//! A figure as PDF.
//!
//! What plotters draws is lines, areas and text in plain colours. usvg has resolved it to paths, letters included, so that
//! a page is those paths one after the other and needs no font.

use crate::error::{Result, bail};
use flate2::{Compression, write::ZlibEncoder};
use pdf_writer::types::{LineCapStyle, LineJoinStyle};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref};
use resvg::tiny_skia::{PathSegment, Transform};
use resvg::usvg::{self, FillRule, Group, LineCap, LineJoin, Node, Paint, Path};
use std::io::Write;

/// Points, a PDF's unit, in a pixel of CSS.
const POINTS: f32 = 0.75;

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const PAGE: Ref = Ref::new(3);
const CONTENT: Ref = Ref::new(4);
/// The first of the opacities.
const OPACITIES: i32 = 5;

/// A page of the picture's size.
pub fn page(tree: &usvg::Tree) -> Result<Vec<u8>> {
    let size = tree.size();
    let (width, height) = (size.width() * POINTS, size.height() * POINTS);
    let mut page = Page {
        content: Content::new(),
        opacities: Vec::new(),
    };
    // A PDF's origin is at the lower left.
    (page.content).transform([POINTS, 0.0, 0.0, -POINTS, 0.0, height]);
    page.group(tree.root())?;

    let mut pdf = Pdf::new();
    pdf.catalog(CATALOG).pages(PAGES);
    pdf.pages(PAGES).kids([PAGE]).count(1);
    let mut entry = pdf.page(PAGE);
    entry.media_box(Rect::new(0.0, 0.0, width, height));
    entry.parent(PAGES).contents(CONTENT);
    let mut resources = entry.resources();
    let mut states = resources.ext_g_states();
    for i in 0..page.opacities.len() {
        states.pair(
            Name(opacity_name(i).as_bytes()),
            Ref::new(OPACITIES + i as i32),
        );
    }
    states.finish();
    resources.finish();
    entry.finish();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&page.content.finish())?;
    (pdf.stream(CONTENT, &packed.finish()?)).filter(Filter::FlateDecode);
    for (i, &opacity) in page.opacities.iter().enumerate() {
        let mut state = pdf.ext_graphics(Ref::new(OPACITIES + i as i32));
        state.non_stroking_alpha(opacity).stroking_alpha(opacity);
    }
    Ok(pdf.finish())
}

fn opacity_name(i: usize) -> String {
    format!("O{i}")
}

struct Page {
    content: Content,
    /// those in use, each a graphics state of the page
    opacities: Vec<f32>,
}

impl Page {
    fn group(&mut self, group: &Group) -> Result<()> {
        for node in group.children() {
            match node {
                Node::Group(group) => self.group(group)?,
                Node::Path(path) => self.path(path)?,
                Node::Text(text) => self.group(text.flattened())?,
                Node::Image(_) => bail!(Figure, "a figure with images cannot be written as PDF"),
            }
        }
        Ok(())
    }

    fn path(&mut self, path: &Path) -> Result<()> {
        if !path.is_visible() {
            return Ok(());
        }
        self.content.save_state();
        let Transform {
            sx,
            kx,
            ky,
            sy,
            tx,
            ty,
        } = path.abs_transform();
        self.content.transform([sx, ky, kx, sy, tx, ty]);
        if let Some(fill) = path.fill() {
            let [r, g, b] = colour(fill.paint())?;
            self.content.set_fill_rgb(r, g, b);
            self.opacity(fill.opacity().get());
            self.outline(path);
            match fill.rule() {
                FillRule::NonZero => self.content.fill_nonzero(),
                FillRule::EvenOdd => self.content.fill_even_odd(),
            };
        }
        if let Some(stroke) = path.stroke() {
            let [r, g, b] = colour(stroke.paint())?;
            self.content.set_stroke_rgb(r, g, b);
            self.opacity(stroke.opacity().get());
            self.content.set_line_width(stroke.width().get());
            self.content.set_line_cap(match stroke.linecap() {
                LineCap::Butt => LineCapStyle::ButtCap,
                LineCap::Round => LineCapStyle::RoundCap,
                LineCap::Square => LineCapStyle::ProjectingSquareCap,
            });
            self.content.set_line_join(match stroke.linejoin() {
                LineJoin::Miter | LineJoin::MiterClip => LineJoinStyle::MiterJoin,
                LineJoin::Round => LineJoinStyle::RoundJoin,
                LineJoin::Bevel => LineJoinStyle::BevelJoin,
            });
            if let Some(dashes) = stroke.dasharray() {
                let dashes = dashes.iter().copied();
                self.content.set_dash_pattern(dashes, stroke.dashoffset());
            }
            self.outline(path);
            self.content.stroke();
        }
        self.content.restore_state();
        Ok(())
    }

    fn opacity(&mut self, opacity: f32) {
        let known = self.opacities.iter().position(|&o| o == opacity);
        let i = known.unwrap_or_else(|| {
            self.opacities.push(opacity);
            self.opacities.len() - 1
        });
        self.content
            .set_parameters(Name(opacity_name(i).as_bytes()));
    }

    fn outline(&mut self, path: &Path) {
        let mut last = (0.0, 0.0);
        for segment in path.data().segments() {
            match segment {
                PathSegment::MoveTo(p) => {
                    self.content.move_to(p.x, p.y);
                    last = (p.x, p.y);
                }
                PathSegment::LineTo(p) => {
                    self.content.line_to(p.x, p.y);
                    last = (p.x, p.y);
                }
                // PDF has cubic curves only: each inner point lies two thirds of the way to the quadratic's.
                PathSegment::QuadTo(c, p) => {
                    let towards = |from: f32, to: f32| from + 2.0 / 3.0 * (to - from);
                    let (x1, y1) = (towards(last.0, c.x), towards(last.1, c.y));
                    let (x2, y2) = (towards(p.x, c.x), towards(p.y, c.y));
                    self.content.cubic_to(x1, y1, x2, y2, p.x, p.y);
                    last = (p.x, p.y);
                }
                PathSegment::CubicTo(a, b, p) => {
                    self.content.cubic_to(a.x, a.y, b.x, b.y, p.x, p.y);
                    last = (p.x, p.y);
                }
                PathSegment::Close => {
                    self.content.close_path();
                }
            }
        }
    }
}

/// Red, green and blue from 0 to 1.
fn colour(paint: &Paint) -> Result<[f32; 3]> {
    match paint {
        Paint::Color(c) => Ok([c.red, c.green, c.blue].map(|v| f32::from(v) / 255.0)),
        _ => bail!(
            Figure,
            "a figure with gradients or patterns cannot be written as PDF"
        ),
    }
}
