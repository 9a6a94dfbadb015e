//! The calls of the CUDA driver that are needed, found in its library at run time. Names and types
//! as in cuda.h; `_v2` and the like are what its macros make of the plain names.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libloading::Library;

use super::report::Unable;

/// `CUresult`.
type Code = c_int;
/// `CUdeviceptr`.
pub type Address = u64;
/// `CUcontext`, `CUstream`, `CUevent`: opaque.
type Opaque = *mut c_void;

/// `CUDA_SUCCESS`.
const SUCCESS: Code = 0;
/// `CU_MEMHOSTALLOC_PORTABLE`: pinned for all contexts.
const PORTABLE: c_uint = 1;
/// `CU_STREAM_NON_BLOCKING`: does not wait for the default stream.
const NON_BLOCKING: c_uint = 1;

macro_rules! calls {
    ($($(#[$doc:meta])* $field:ident = $name:literal ( $($type:ty),* );)*) => {
        /// The calls, each looked up once.
        struct Calls {
            $($(#[$doc])* $field: unsafe extern "C" fn($($type),*) -> Code,)*
        }

        impl Calls {
            fn find(library: &Library) -> Result<Calls, Unable> {
                Ok(Calls {
                    $($field: {
                        // SAFETY: the library is NVIDIA's by its name, where this symbol has this type.
                        let found = unsafe { library.get($name.as_bytes()) };
                        let symbol: libloading::Symbol<'_, unsafe extern "C" fn($($type),*) -> Code> =
                            found.map_err(|_| Unable::NoDriver(concat!("its library has no ", $name).to_owned()))?;
                        *symbol
                    },)*
                })
            }
        }
    };
}

calls! {
    init = "cuInit"(c_uint);
    device_count = "cuDeviceGetCount"(*mut c_int);
    device = "cuDeviceGet"(*mut c_int, c_int);
    device_name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
    retain = "cuDevicePrimaryCtxRetain"(*mut Opaque, c_int);
    release = "cuDevicePrimaryCtxRelease_v2"(c_int);
    set_current = "cuCtxSetCurrent"(Opaque);
    memory_info = "cuMemGetInfo_v2"(*mut usize, *mut usize);
    allocate = "cuMemAlloc_v2"(*mut Address, usize);
    free = "cuMemFree_v2"(Address);
    host_allocate = "cuMemHostAlloc"(*mut *mut c_void, usize, c_uint);
    host_free = "cuMemFreeHost"(*mut c_void);
    stream_create = "cuStreamCreate"(*mut Opaque, c_uint);
    stream_synchronize = "cuStreamSynchronize"(Opaque);
    stream_destroy = "cuStreamDestroy_v2"(Opaque);
    event_create = "cuEventCreate"(*mut Opaque, c_uint);
    event_record = "cuEventRecord"(Opaque, Opaque);
    event_synchronize = "cuEventSynchronize"(Opaque);
    event_elapsed = "cuEventElapsedTime"(*mut f32, Opaque, Opaque);
    event_destroy = "cuEventDestroy_v2"(Opaque);
    to_device = "cuMemcpyHtoDAsync_v2"(Address, *const c_void, usize, Opaque);
    to_host = "cuMemcpyDtoH_v2"(*mut c_void, Address, usize);
    ipc_handle = "cuIpcGetMemHandle"(*mut IpcHandle, Address);
    error_name = "cuGetErrorName"(Code, *mut *const c_char);
}

/// `CUipcMemHandle`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IpcHandle(pub [u8; 64]);

/// The driver, with one GPU's primary context held.
pub struct Gpu {
    calls: Calls,
    device: c_int,
    context: Opaque,
    // Kept open as long as its calls are used.
    _library: Library,
}

// SAFETY: the driver's calls may be made from any thread (CUDA C Programming Guide, "Driver API");
// the context is made current by each thread that uses it.
unsafe impl Send for Gpu {}
// SAFETY: as above; this structure itself is never changed.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Opens the driver and a GPU, and makes it current for this thread.
    pub fn open(gpu: u32) -> Result<Gpu, Unable> {
        // SAFETY: runs the library's own start-up code, as every CUDA program does.
        let library = unsafe { Library::new("libcuda.so.1") };
        let library = library.map_err(|error| Unable::NoDriver(error.to_string()))?;
        let calls = Calls::find(&library)?;
        // SAFETY: as cuda.h says; the call takes flags, of which there are none.
        let code = unsafe { (calls.init)(0) };
        if code != SUCCESS {
            return Err(Unable::NoDriver(format!("cuInit: {}", name(&calls, code))));
        }
        let mut count = 0;
        // SAFETY: writes one integer.
        checked(&calls, "cuDeviceGetCount", unsafe { (calls.device_count)(&raw mut count) })?;
        let count = u32::try_from(count).unwrap_or(0);
        let ordinal = c_int::try_from(gpu).ok().filter(|_| gpu < count).ok_or(Unable::NoGpu { gpu, count })?;
        let (mut device, mut context) = (0, std::ptr::null_mut());
        // SAFETY: the calls write a device and a context where they are told to.
        unsafe {
            checked(&calls, "cuDeviceGet", (calls.device)(&raw mut device, ordinal))?;
            checked(&calls, "cuDevicePrimaryCtxRetain", (calls.retain)(&raw mut context, device))?;
        }
        let gpu = Gpu { calls, device, context, _library: library };
        gpu.make_current()?;
        Ok(gpu)
    }

    /// Makes the GPU current for the calling thread.
    pub fn make_current(&self) -> Result<(), Unable> {
        // SAFETY: the context is held by this structure.
        self.check("cuCtxSetCurrent", unsafe { (self.calls.set_current)(self.context) })
    }

    /// The GPU's name.
    pub fn name(&self) -> Result<String, Unable> {
        let mut text: [c_char; 128] = [0; 128];
        // SAFETY: writes at most that many characters, the last a zero.
        self.check("cuDeviceGetName", unsafe { (self.calls.device_name)(text.as_mut_ptr(), 127, self.device) })?;
        // SAFETY: the last character is a zero whatever the call wrote.
        Ok(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Free bytes.
    pub fn free_bytes(&self) -> Result<u64, Unable> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two sizes.
        self.check("cuMemGetInfo", unsafe { (self.calls.memory_info)(&raw mut free, &raw mut total) })?;
        Ok(free as u64)
    }

    /// Memory of the GPU.
    pub fn allocate(&self, bytes: usize) -> Result<DeviceMemory<'_>, Unable> {
        let mut address = 0;
        // SAFETY: writes one address.
        self.check("cuMemAlloc", unsafe { (self.calls.allocate)(&raw mut address, bytes) })?;
        Ok(DeviceMemory { gpu: self, address, bytes })
    }

    /// Pinned memory of the host.
    pub fn allocate_host(&self, bytes: usize) -> Result<HostMemory<'_>, Unable> {
        let mut start = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        self.check("cuMemHostAlloc", unsafe { (self.calls.host_allocate)(&raw mut start, bytes, PORTABLE) })?;
        Ok(HostMemory { gpu: self, start: start.cast(), bytes })
    }

    /// A queue of copies.
    pub fn stream(&self) -> Result<Stream<'_>, Unable> {
        let mut stream = std::ptr::null_mut();
        // SAFETY: writes one pointer.
        self.check("cuStreamCreate", unsafe { (self.calls.stream_create)(&raw mut stream, NON_BLOCKING) })?;
        Ok(Stream { gpu: self, stream })
    }

    /// A mark in a queue.
    pub fn event(&self) -> Result<Event<'_>, Unable> {
        let mut event = std::ptr::null_mut();
        // SAFETY: writes one pointer. Flags 0: with times.
        self.check("cuEventCreate", unsafe { (self.calls.event_create)(&raw mut event, 0) })?;
        Ok(Event { gpu: self, event })
    }

    fn check(&self, call: &str, code: Code) -> Result<(), Unable> {
        checked(&self.calls, call, code)
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: gives back what `open` took.
        unsafe { (self.calls.release)(self.device) };
    }
}

fn checked(calls: &Calls, call: &str, code: Code) -> Result<(), Unable> {
    match code {
        SUCCESS => Ok(()),
        _ => Err(Unable::Call { call: call.to_owned(), error: name(calls, code) }),
    }
}

fn name(calls: &Calls, code: Code) -> String {
    let mut text = std::ptr::null();
    // SAFETY: writes a pointer to a constant text, or null.
    let found = unsafe { (calls.error_name)(code, &raw mut text) } == SUCCESS && !text.is_null();
    // SAFETY: a constant text of the library, as just checked.
    if found { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() } else { format!("error {code}") }
}

/// Memory of a GPU.
pub struct DeviceMemory<'g> {
    gpu: &'g Gpu,
    address: Address,
    bytes: usize,
}

impl DeviceMemory<'_> {
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues a copy of the first `size` bytes of pinned memory to `offset`. The memory must not be
    /// changed before the queue has come past it.
    pub fn fill(&self, offset: usize, from: &HostMemory<'_>, size: usize, stream: &Stream<'_>) -> Result<(), Unable> {
        if size > from.bytes || offset.checked_add(size).is_none_or(|end| end > self.bytes) {
            return Err(Unable::Call { call: "cuMemcpyHtoDAsync".to_owned(), error: "out of bounds".to_owned() });
        }
        let address = self.address + offset as u64;
        // SAFETY: both ends are inside of their allocations, as just checked.
        let code = unsafe { (self.gpu.calls.to_device)(address, from.start.cast(), size, stream.stream) };
        self.gpu.check("cuMemcpyHtoDAsync", code)
    }

    /// Copies back.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Unable> {
        if offset.checked_add(to.len()).is_none_or(|end| end > self.bytes) {
            return Err(Unable::Call { call: "cuMemcpyDtoH".to_owned(), error: "out of bounds".to_owned() });
        }
        // SAFETY: inside of the allocation, as just checked; `to` is borrowed for writing.
        let code = unsafe { (self.gpu.calls.to_host)(to.as_mut_ptr().cast(), self.address + offset as u64, to.len()) };
        self.gpu.check("cuMemcpyDtoH", code)
    }

    /// A handle by which another process can map it.
    pub fn ipc_handle(&self) -> Result<IpcHandle, Unable> {
        let mut handle = IpcHandle([0; 64]);
        // SAFETY: writes one handle.
        self.gpu.check("cuIpcGetMemHandle", unsafe { (self.gpu.calls.ipc_handle)(&raw mut handle, self.address) })?;
        Ok(handle)
    }
}

impl Drop for DeviceMemory<'_> {
    fn drop(&mut self) {
        // SAFETY: frees what `allocate` made, once.
        unsafe { (self.gpu.calls.free)(self.address) };
    }
}

/// Pinned memory of the host.
pub struct HostMemory<'g> {
    gpu: &'g Gpu,
    start: *mut u8,
    bytes: usize,
}

impl HostMemory<'_> {
    /// Its bytes, for reading a file into them. No copy from it may be under way.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: this structure owns the allocation of that size, which the driver made; any value
        // is a byte.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl Drop for HostMemory<'_> {
    fn drop(&mut self) {
        // SAFETY: frees what `allocate_host` made, once.
        unsafe { (self.gpu.calls.host_free)(self.start.cast()) };
    }
}

/// A queue of copies.
pub struct Stream<'g> {
    gpu: &'g Gpu,
    stream: Opaque,
}

impl Stream<'_> {
    /// Waits until it is empty.
    pub fn synchronize(&self) -> Result<(), Unable> {
        // SAFETY: the stream is held by this structure.
        self.gpu.check("cuStreamSynchronize", unsafe { (self.gpu.calls.stream_synchronize)(self.stream) })
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        // SAFETY: destroys what `stream` made, once.
        unsafe { (self.gpu.calls.stream_destroy)(self.stream) };
    }
}

/// A mark in a queue.
pub struct Event<'g> {
    gpu: &'g Gpu,
    event: Opaque,
}

impl Event<'_> {
    /// Puts it behind what is in a queue.
    pub fn record(&self, stream: &Stream<'_>) -> Result<(), Unable> {
        // SAFETY: both are held by their structures.
        self.gpu.check("cuEventRecord", unsafe { (self.gpu.calls.event_record)(self.event, stream.stream) })
    }

    /// Waits until the queue has come past it; at once if it is in none.
    pub fn synchronize(&self) -> Result<(), Unable> {
        // SAFETY: the event is held by this structure.
        self.gpu.check("cuEventSynchronize", unsafe { (self.gpu.calls.event_synchronize)(self.event) })
    }

    /// Seconds since an earlier one; both must have been passed.
    pub fn seconds_since(&self, earlier: &Event<'_>) -> Result<f64, Unable> {
        let mut milliseconds = 0f32;
        // SAFETY: writes one number; both events are held by their structures.
        let code = unsafe { (self.gpu.calls.event_elapsed)(&raw mut milliseconds, earlier.event, self.event) };
        self.gpu.check("cuEventElapsedTime", code)?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: destroys what `event` made, once.
        unsafe { (self.gpu.calls.event_destroy)(self.event) };
    }
}
