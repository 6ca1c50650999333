//! Launches that the driver recorded as a graph, and graphs that loop on their own.
//!
//! A graph with a loop has one node, `while (condition)`, of CUDA 12.4 and later. Its body is what was captured and, last, a kernel that sets
//! the condition: `kernels/while_node.cu`, a module of its own. No driver has to have any of this: where something is missing or fails,
//! there is no loop, and whoever asked for one launches the iterations himself.

use super::abi::{EqLoopArgs, EqPhase};
use super::device::Recording;
use super::error::CudaError;
use super::handles::{Handles, Loops, call};
use super::image;
use super::kernels::CONTINUE_PHASE;
use crate::error::Result;
use cudarc::driver::{result, sys};
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// The first version of CUDA whose drivers have all calls below; of an older one not even their names may be looked up.
const FIRST_WITH_LOOPS: i32 = 12040;
const MODE: sys::CUstreamCaptureMode =
    sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;

/// What `body` launches, as a graph.
///
/// # Errors
/// Those of `body`, and of the driver.
pub fn record(
    handles: &Arc<Handles>,
    body: &mut dyn FnMut() -> Result<()>,
) -> Result<Box<dyn Recording>> {
    let capture = Capture::begin(handles)?;
    body()?;
    Ok(Box::new(Executable::new(handles, capture.end()?, false)?))
}

/// What `body` launches, again and again until the phase is done; `None` where the driver or this build has no loops, or the driver refuses,
/// which is told once. What `body` itself fails with is another's to tell: it will fail again without a loop.
///
/// # Errors
/// When the GPU cannot be used at all.
pub fn record_loop(
    handles: &Arc<Handles>,
    body: &mut dyn FnMut() -> Result<()>,
    phase: *const EqPhase,
) -> Result<Option<Box<dyn Recording>>> {
    handles.enter()?;
    let mut loops = handles.loops();
    if !loops.wanted {
        return Ok(None);
    }
    let made = looped(handles, &mut loops, body, phase);
    loops.wanted = matches!(made, Ok(Some(_)));
    match made {
        Ok(executable) => Ok(executable.map(|e| Box::new(e) as Box<dyn Recording>)),
        Err(error) => {
            log::info!(
                "note: no loop inside the GPU's graph ({error:#}); the host asks every few iterations whether a phase has ended, as with \
                 EQPROP_WHILE=off"
            );
            Ok(None)
        }
    }
}

fn looped(
    handles: &Arc<Handles>,
    loops: &mut Loops,
    body: &mut dyn FnMut() -> Result<()>,
    phase: *const EqPhase,
) -> Result<Option<Executable>> {
    let Some(kernel) = loop_kernel(handles, loops)? else {
        return Ok(None);
    };
    let graph = Graph::new()?;
    let condition = graph.condition(handles)?;
    let capture = Capture::begin_in(handles, graph.add_while(handles, condition)?)?;
    body()?;
    let args = EqLoopArgs { phase, condition };
    let mut parameter = [(&raw const args).cast_mut().cast::<c_void>()];
    let (threads, shared_bytes) = (CONTINUE_PHASE.threads, CONTINUE_PHASE.shared_bytes);
    // SAFETY: the kernel takes this struct, which the driver copies; the caller keeps the phase as long as the recording.
    call("recording the end of a loop", unsafe {
        let stream = handles.stream();
        result::launch_kernel(
            kernel,
            (1, 1, 1),
            (threads, 1, 1),
            shared_bytes,
            stream,
            &mut parameter,
        )
    })?;
    drop(capture.end()?);
    // The condition is the graph's: it stays as long as what was made of it.
    Ok(Some(Executable::new(handles, graph, true)?))
}

/// The kernel that steers a loop, ready to be captured; `None` from an older driver, or where no toolkit compiled it.
fn loop_kernel(handles: &Handles, loops: &mut Loops) -> Result<Option<sys::CUfunction>, CudaError> {
    let Some(image) = image::while_node() else {
        return Ok(None);
    };
    let mut version = 0;
    // SAFETY: writes one integer.
    let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
    call("asking for the driver's version", asked.result())?;
    if version < FIRST_WITH_LOOPS {
        return Ok(None);
    }
    if loops.module.is_null() {
        loops.module = handles.load("loading the kernel of loops", image)?;
    }
    let name = CString::new(CONTINUE_PHASE.name).expect("a kernel's name has no NUL");
    // SAFETY: the module is loaded.
    let kernel = call("looking for the kernel of loops", unsafe {
        result::module::get_function(loops.module, name)
    })?;
    // SAFETY: the function was just found. A driver that loads kernels when they are first launched could not do so in a capture.
    let loaded = unsafe { sys::cuFuncLoad(kernel) };
    call("loading the kernel of loops", loaded.result())?;
    Ok(Some(kernel))
}

/// A capture that has begun. Dropped without [`Capture::end`], for instance by a panic, it ends and leaves nothing behind.
struct Capture<'a> {
    handles: &'a Handles,
    /// whether what is captured belongs to another graph, which releases it
    inside: bool,
}

impl<'a> Capture<'a> {
    fn begin(handles: &'a Handles) -> Result<Self, CudaError> {
        handles.enter()?;
        // SAFETY: the stream lives as long as `handles`.
        call("recording a phase", unsafe {
            result::stream::begin_capture(handles.stream(), MODE)
        })?;
        Ok(Self {
            handles,
            inside: false,
        })
    }

    /// Into the body of a loop.
    fn begin_in(handles: &'a Handles, body: sys::CUgraph) -> Result<Self, CudaError> {
        let none = std::ptr::null();
        // SAFETY: the stream lives as long as `handles`, the graph is that of a node, and what is captured depends on nothing.
        let begun = unsafe {
            sys::cuStreamBeginCaptureToGraph(
                handles.stream(),
                body,
                none,
                std::ptr::null(),
                0,
                MODE,
            )
        };
        call("recording the body of a loop", begun.result())?;
        Ok(Self {
            handles,
            inside: true,
        })
    }

    fn end(self) -> Result<Graph, CudaError> {
        let graph = self.finish();
        std::mem::forget(self);
        graph
    }

    fn finish(&self) -> Result<Graph, CudaError> {
        // SAFETY: the capture was begun, and ends once. One that a failed call made invalid returns no graph.
        let graph = unsafe { result::stream::end_capture(self.handles.stream()) };
        let graph = call("recording a phase", graph)?;
        Ok(Graph(match self.inside {
            true => std::ptr::null_mut(),
            false => graph,
        }))
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

struct Graph(sys::CUgraph);

// SAFETY: the driver's handles belong to no thread.
unsafe impl Send for Graph {}
// SAFETY: nothing is done with a graph but to make an executable of it, and to release it.
unsafe impl Sync for Graph {}

impl Graph {
    /// An empty one.
    fn new() -> Result<Self, CudaError> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: writes one handle.
        let made = unsafe { sys::cuGraphCreate(&mut graph, 0) };
        call("making a graph", made.result())?;
        Ok(Self(graph))
    }

    /// A condition for a loop, which is true whenever the graph is launched.
    fn condition(&self, handles: &Handles) -> Result<sys::CUgraphConditionalHandle, CudaError> {
        let mut condition = 0;
        // SAFETY: writes one number; graph and context are live.
        let made = unsafe {
            sys::cuGraphConditionalHandleCreate(
                &mut condition,
                self.0,
                handles.context(),
                1,
                sys::CU_GRAPH_COND_ASSIGN_DEFAULT,
            )
        };
        call("making the condition of a loop", made.result())?;
        Ok(condition)
    }

    /// Adds a loop, and returns its body, an empty graph that belongs to it.
    fn add_while(
        &self,
        handles: &Handles,
        condition: sys::CUgraphConditionalHandle,
    ) -> Result<sys::CUgraph, CudaError> {
        // SAFETY: numbers and pointers, for which zeros are values; the driver wants what is reserved to be zero.
        let mut node: sys::CUgraphNodeParams = unsafe { std::mem::zeroed() };
        node.type_ = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_CONDITIONAL;
        node.__bindgen_anon_1.conditional = sys::CUDA_CONDITIONAL_NODE_PARAMS {
            handle: condition,
            type_: sys::CUgraphConditionalNodeType::CU_GRAPH_COND_TYPE_WHILE,
            size: 1,
            phGraph_out: std::ptr::null_mut(),
            ctx: handles.context(),
        };
        let mut added = std::ptr::null_mut();
        let (none, no_data) = (std::ptr::null(), std::ptr::null());
        // SAFETY: the graph is live; the node depends on nothing.
        let outcome =
            unsafe { sys::cuGraphAddNode_v2(&mut added, self.0, none, no_data, 0, &mut node) };
        call("making a loop", outcome.result())?;
        // SAFETY: the driver has written where its array of one body lies, which is the node's.
        unsafe { node.__bindgen_anon_1.conditional.phGraph_out.as_ref() }
            .copied()
            .ok_or_else(|| CudaError::Driver {
                call: "making a loop".to_string(),
                code: sys::CUresult::CUDA_ERROR_NOT_SUPPORTED,
            })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: this one's own, destroyed once.
            let _ = unsafe { result::graph::destroy(self.0) };
        }
    }
}

/// A graph that can be launched.
struct Executable {
    handles: Arc<Handles>,
    executable: sys::CUgraphExec,
    /// what it was made of, where that has to stay
    graph: Option<Graph>,
}

// SAFETY: as for `Handles`.
unsafe impl Send for Executable {}
// SAFETY: as for `Handles`.
unsafe impl Sync for Executable {}

impl Executable {
    /// Of a graph, which stays as long as this, or goes now.
    fn new(handles: &Arc<Handles>, graph: Graph, stays: bool) -> Result<Self, CudaError> {
        // SAFETY: the graph was just made, and flags of zero are valid.
        let executable = call("recording a phase", unsafe {
            result::graph::instantiate(graph.0, std::mem::zeroed())
        })?;
        Ok(Self {
            handles: handles.clone(),
            executable,
            graph: stays.then_some(graph),
        })
    }
}

impl Recording for Executable {
    fn replay(&self) -> Result<()> {
        self.handles.enter()?;
        // SAFETY: both handles live as long as `self`.
        call("running a phase", unsafe {
            result::graph::launch(self.executable, self.handles.stream())
        })?;
        Ok(())
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // Waiting costs a moment when a batch's memory goes; the driver may defer the release of a graph that still runs,
        // but buffers that it reads are freed next.
        if self.handles.synchronize().is_ok() {
            // SAFETY: destroyed once.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
        }
        // While there is a context.
        drop(self.graph.take());
    }
}
