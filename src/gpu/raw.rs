//! Calls of NVML that its wrapper does not have. Each is looked up at run time: an older library
//! lacks some, which is "not supported", not a failure.

use std::mem::{size_of, zeroed};

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings as sys;

use crate::fault::gpu::facts::{Banks, Fabric, Rows};

type Answer<T> = Result<T, NvmlError>;

/// NVML's way to say which layout of a structure is meant (NVML_STRUCT_VERSION).
fn layout<T>(version: u32) -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX) | (version << 24)
}

fn done(code: sys::nvmlReturn_t) -> Answer<()> {
    nvml_wrapper::error::nvml_try(code)
}

/// Whether ECC is on as the GPU left the factory.
pub fn ecc_by_default(nvml: &Nvml, device: &Device<'_>) -> Answer<bool> {
    let call = nvml.lib().nvmlDeviceGetDefaultEccMode.as_ref().map_err(|_| NvmlError::NotSupported)?;
    let mut mode: sys::nvmlEnableState_t = 0;
    // SAFETY: the handle is of this session; the call writes one integer to where it is told to.
    done(unsafe { call(device.handle(), &mut mode) })?;
    Ok(mode == sys::nvmlEnableState_enum_NVML_FEATURE_ENABLED)
}

/// Whether the GPU says that its SRAM had too many errors.
pub fn sram_threshold(nvml: &Nvml, device: &Device<'_>) -> Answer<bool> {
    let call = nvml.lib().nvmlDeviceGetSramEccErrorStatus.as_ref().map_err(|_| NvmlError::NotSupported)?;
    // SAFETY: a structure of integers, for which all zeros is a value.
    let mut status: sys::nvmlEccSramErrorStatus_t = unsafe { zeroed() };
    status.version = layout::<sys::nvmlEccSramErrorStatus_t>(1);
    // SAFETY: the handle is of this session; the structure says its own size and layout.
    done(unsafe { call(device.handle(), &mut status) })?;
    Ok(status.bThresholdExceeded != 0)
}

/// Rows of memory that were replaced.
pub fn rows(nvml: &Nvml, device: &Device<'_>) -> Answer<Rows> {
    let call = nvml.lib().nvmlDeviceGetRemappedRows.as_ref().map_err(|_| NvmlError::NotSupported)?;
    let (mut correctable, mut uncorrectable, mut pending, mut failure) = (0, 0, 0, 0);
    // SAFETY: the handle is of this session; the call writes one integer to each of the four places.
    done(unsafe { call(device.handle(), &mut correctable, &mut uncorrectable, &mut pending, &mut failure) })?;
    Ok(Rows { correctable, uncorrectable, pending: pending != 0, failure: failure != 0 })
}

/// Banks by spare rows left.
pub fn banks(nvml: &Nvml, device: &Device<'_>) -> Answer<Banks> {
    let call = nvml.lib().nvmlDeviceGetRowRemapperHistogram.as_ref().map_err(|_| NvmlError::NotSupported)?;
    // SAFETY: a structure of integers, for which all zeros is a value.
    let mut values: sys::nvmlRowRemapperHistogramValues_t = unsafe { zeroed() };
    // SAFETY: the handle is of this session; the call fills the structure.
    done(unsafe { call(device.handle(), &mut values) })?;
    let sys::nvmlRowRemapperHistogramValues_t { max, high, partial, low, none } = values;
    Ok(Banks { max, high, partial, low, none })
}

/// Membership in the NVLink fabric: with bits of health, or from older drivers without.
pub fn fabric(nvml: &Nvml, device: &Device<'_>) -> Answer<Fabric> {
    if let Ok(call) = nvml.lib().nvmlDeviceGetGpuFabricInfoV.as_ref() {
        // SAFETY: a structure of integers, for which all zeros is a value.
        let mut info: sys::nvmlGpuFabricInfo_v3_t = unsafe { zeroed() };
        // Layout 2, which every library with this call knows, is the beginning of layout 3.
        info.version = layout::<sys::nvmlGpuFabricInfo_v2_t>(2);
        // SAFETY: the handle is of this session; the structure is no smaller than the layout it names.
        done(unsafe { call(device.handle(), &mut info) })?;
        return Ok(Fabric { state: info.state, status: info.status, health: Some(info.healthMask) });
    }
    let call = nvml.lib().nvmlDeviceGetGpuFabricInfo.as_ref().map_err(|_| NvmlError::NotSupported)?;
    // SAFETY: a structure of integers, for which all zeros is a value.
    let mut info: sys::nvmlGpuFabricInfo_t = unsafe { zeroed() };
    // SAFETY: the handle is of this session; the call fills the structure.
    done(unsafe { call(device.handle(), &mut info) })?;
    Ok(Fabric { state: info.state, status: info.status, health: None })
}

/// Load of the JPEG engine, percent.
pub fn jpeg_load(nvml: &Nvml, device: &Device<'_>) -> Answer<u32> {
    let call = nvml.lib().nvmlDeviceGetJpgUtilization.as_ref().map_err(|_| NvmlError::NotSupported)?;
    let (mut load, mut period) = (0, 0);
    // SAFETY: the handle is of this session; the call writes two integers.
    done(unsafe { call(device.handle(), &mut load, &mut period) })?;
    Ok(load)
}

/// Load of the optical flow engine, percent.
pub fn optical_flow_load(nvml: &Nvml, device: &Device<'_>) -> Answer<u32> {
    let call = nvml.lib().nvmlDeviceGetOfaUtilization.as_ref().map_err(|_| NvmlError::NotSupported)?;
    let (mut load, mut period) = (0, 0);
    // SAFETY: the handle is of this session; the call writes two integers.
    done(unsafe { call(device.handle(), &mut load, &mut period) })?;
    Ok(load)
}

/// A value that has only a number, in a scope: of a link, where the field counts links.
pub fn field(nvml: &Nvml, device: &Device<'_>, id: u32, scope: u32) -> Answer<f64> {
    let call = nvml.lib().nvmlDeviceGetFieldValues.as_ref().map_err(|_| NvmlError::NotSupported)?;
    // SAFETY: a structure of integers and a union of numbers, for which all zeros is a value.
    let mut value: sys::nvmlFieldValue_t = unsafe { zeroed() };
    value.fieldId = id;
    value.scopeId = scope;
    // SAFETY: the handle is of this session; the call fills the one structure it is told of.
    done(unsafe { call(device.handle(), 1, &mut value) })?;
    done(value.nvmlReturn)?;
    // SAFETY: the type says which member was written; all are plain numbers.
    unsafe {
        Ok(match value.valueType {
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE => value.value.dVal,
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT => f64::from(value.value.uiVal),
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG
            | sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG => value.value.ullVal as f64,
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG => value.value.sllVal as f64,
            other => return Err(NvmlError::UnexpectedVariant(other)),
        })
    }
}

/// What kind of device is at the other end of an NVLink. The wrapper's own call gives what it was
/// called with.
pub fn link_end(nvml: &Nvml, device: &Device<'_>, link: u32) -> Answer<sys::nvmlIntNvLinkDeviceType_t> {
    let call = nvml.lib().nvmlDeviceGetNvLinkRemoteDeviceType.as_ref().map_err(|_| NvmlError::NotSupported)?;
    let mut kind: sys::nvmlIntNvLinkDeviceType_t = sys::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_UNKNOWN;
    // SAFETY: the handle is of this session; the call writes one integer to where it is told to.
    done(unsafe { call(device.handle(), link, &mut kind) })?;
    Ok(kind)
}

/// Numbers of a MIG device: of its GPU instance, and of the compute instance in that.
pub fn instance_ids(nvml: &Nvml, device: &Device<'_>) -> (Option<u32>, Option<u32>) {
    let library = nvml.lib();
    let mut id = 0;
    // SAFETY: the handle is of this session; the call writes one integer.
    let mut ask = |call: unsafe extern "C" fn(sys::nvmlDevice_t, *mut u32) -> u32| {
        done(unsafe { call(device.handle(), &mut id) }).ok().map(|()| id)
    };
    let gpu = library.nvmlDeviceGetGpuInstanceId.as_ref().ok().and_then(|call| ask(*call));
    let compute = library.nvmlDeviceGetComputeInstanceId.as_ref().ok().and_then(|call| ask(*call));
    (gpu, compute)
}

/// A set of events, which GPUs are registered with. Not the wrapper's own: that is freed when one GPU
/// can't be registered, and says nothing of MIG instances.
pub struct EventSet<'n> {
    nvml: &'n Nvml,
    set: sys::nvmlEventSet_t,
}

/// The GPU, its Xid, and the GPU and compute instance where it is of one.
type Told<'n> = (Device<'n>, u32, (Option<u32>, Option<u32>));

impl<'n> EventSet<'n> {
    /// An empty one. It lives as long as the process: to free it could hang.
    pub fn new(nvml: &'n Nvml) -> Answer<EventSet<'n>> {
        let call = nvml.lib().nvmlEventSetCreate.as_ref().map_err(|_| NvmlError::NotSupported)?;
        let mut set: sys::nvmlEventSet_t = std::ptr::null_mut();
        // SAFETY: the session has begun; the call writes one handle to where it is told to.
        done(unsafe { call(&mut set) })?;
        Ok(EventSet { nvml, set })
    }

    /// Has a GPU tell of its Xids.
    pub fn register(&self, device: &Device<'_>) -> Answer<()> {
        let call = self.nvml.lib().nvmlDeviceRegisterEvents.as_ref().map_err(|_| NvmlError::NotSupported)?;
        // SAFETY: both handles are of this session.
        done(unsafe { call(device.handle(), u64::from(sys::nvmlEventTypeXidCriticalError), self.set) })
    }

    /// Waits for the next Xid; `None` if none came in time. Of several that came together NVML may
    /// say the last one several times.
    pub fn wait(&self, timeout_ms: u32) -> Answer<Option<Told<'n>>> {
        let call = self.nvml.lib().nvmlEventSetWait_v2.as_ref().map_err(|_| NvmlError::NotSupported)?;
        // SAFETY: a structure of integers and a pointer, for which all zeros is a value.
        let mut data: sys::nvmlEventData_t = unsafe { zeroed() };
        // SAFETY: the handle is of this session; the call fills the structure.
        match done(unsafe { call(self.set, &mut data, timeout_ms) }) {
            Ok(()) => {}
            Err(NvmlError::Timeout) => return Ok(None),
            Err(error) => return Err(error),
        }
        if data.eventType & u64::from(sys::nvmlEventTypeXidCriticalError) == 0 {
            return Ok(None);
        }
        // All ones: not of an instance.
        let id = |id: u32| (id != u32::MAX && self.is_divided(data.device)).then_some(id);
        let instance = (id(data.gpuInstanceId), id(data.computeInstanceId));
        // SAFETY: the library has just given the handle for this session.
        let device = unsafe { Device::new(data.device, self.nvml) };
        Ok(Some((device, u32::try_from(data.eventData).unwrap_or(u32::MAX), instance)))
    }

    /// Without MIG instances are not told apart, and libraries differ in what they write there.
    fn is_divided(&self, device: sys::nvmlDevice_t) -> bool {
        // SAFETY: the library has just given the handle for this session.
        let device = unsafe { Device::new(device, self.nvml) };
        device.mig_mode().is_ok_and(|mode| mode.current == 1)
    }
}
