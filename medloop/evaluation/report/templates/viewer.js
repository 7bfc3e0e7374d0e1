"use strict";
// The viewer's controls. NiiVue is unpacked when it is first opened; there are no network requests.
(() => {
  const byId = (name) => document.getElementById(`viewer-${name}`);
  const legend = JSON.parse(byId("legend").textContent);
  const MAPS = ["truth", "prediction", "differences"];
  const AXES = { axial: 2, coronal: 1, sagittal: 0, multi: 2 };
  const canvas = byId("canvas"), slider = byId("slice"), number = byId("number");
  let viewer = null, shape = [1, 1, 1], loading = Promise.resolve();

  const unpack = async (id) => {
    const text = atob(document.getElementById(id).textContent.trim());
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
  };

  const complain = (words) => {
    byId("problem").textContent = words;
    byId("problem").hidden = false;
  };

  const plane = () => document.querySelector('input[name="plane"]:checked').value;
  const axis = () => AXES[plane()];

  // A position is a share of the volume: the middle of slice k of n is at (k - 1/2) / n.
  const slice = () => Math.min(shape[axis()], Math.floor(viewer.scene.crosshairPos[axis()] * shape[axis()]) + 1);

  const tell = () => {
    const flat = plane() !== "render";
    byId("slices").hidden = !flat;
    if (!flat) { byId("where").textContent = "3D: drag to rotate."; return; }
    const [k, n] = [slice(), shape[axis()]];
    slider.max = number.max = n;
    slider.value = number.value = k;
    slider.setAttribute("aria-valuetext", `slice ${k} of ${n}`);
    byId("of").textContent = `of ${n}`;
    byId("where").textContent = `${plane() === "multi" ? "axial" : plane()} slice ${k} of ${n}`;
  };

  const go = (k) => {
    const n = shape[axis()];
    if (!Number.isFinite(k)) return;
    viewer.scene.crosshairPos[axis()] = (Math.min(n, Math.max(1, Math.round(k))) - 0.5) / n;
    viewer.drawScene();
    tell();
  };

  const showPlane = () => {
    const types = viewer.sliceTypes;
    viewer.opts.crosshairWidth = plane() === "multi" ? 0.4 : 0;
    viewer.setSliceType(types[plane()]);
    showMaps();
  };

  const showMaps = () => {
    const [image, ...maps] = viewer.volumes;
    image.opacity = byId("image").checked ? 1 : 0;
    const opacity = byId("opacity").value / 100;
    MAPS.forEach((name, i) => { maps[i].opacity = byId(name).checked ? opacity : 0; });
    viewer.updateGLVolume();
    tell();
  };

  const colours = (map) => {
    if (map === "differences") return { R: [0, 255], G: [0, 30], B: [0, 60], A: [0, 255], I: [0, 1] };
    const rgb = legend.map((structure) => [1, 3, 5].map((at) => parseInt(structure[map].slice(at, at + 2), 16)));
    const channel = (at) => [0, ...rgb.map((tone) => tone[at])];
    return { R: channel(0), G: channel(1), B: channel(2), A: [0, ...rgb.map(() => 255)], I: [0, ...rgb.map((_, k) => k + 1)] };
  };

  const load = async () => {
    const number = byId("case").value;
    canvas.setAttribute("aria-busy", "true");
    const volumes = [];
    for (const name of ["image", ...MAPS]) {
      const file = name === "differences" ? "truth" : name;
      const url = await (await unpack(`volume-${number}-${file}`)).arrayBuffer();
      const options = { url, name: `${name}.nii`, colormap: "gray", cal_min: 0, cal_max: 255 };
      const volume = await niivue.NVImage.loadFromUrl(options);
      if (name === "differences") volume.img = volume.img.map((label, i) => Number(label !== volumes[2].img[i]));
      if (name !== "image") volume.setColormapLabel(colours(name));
      volumes.push(volume);
    }
    while (viewer.volumes.length) viewer.removeVolumeByIndex(viewer.volumes.length - 1);
    volumes.forEach((volume) => viewer.addVolume(volume));
    shape = volumes[0].dimsRAS.slice(1, 4);
    viewer.scene.crosshairPos.set(shape.map((n) => (Math.ceil(n / 2) - 0.5) / n));
    showPlane();
    canvas.removeAttribute("aria-busy");
    canvas.setAttribute("aria-label", byId("case").selectedOptions[0].textContent);
  };

  const start = async () => {
    const script = document.createElement("script");
    script.textContent = await (await unpack("viewer-code")).text();
    document.head.append(script);
    const { Niivue, SLICE_TYPE } = niivue;
    viewer = new Niivue({
      logLevel: "silent", backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 0.4, 0.5], show3Dcrosshair: false,
      isRadiologicalConvention: true, sagittalNoseLeft: true, isNearestInterpolation: true, dragAndDropEnabled: false,
      isOrientationTextVisible: true, showAllOrientationMarkers: true, fontColor: [1, 1, 1, 1], multiplanarShowRender: 0, isForceMouseClickToVoxelCenters: true,
      loadingText: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "",
    });
    viewer.sliceTypes = {
      axial: SLICE_TYPE.AXIAL, coronal: SLICE_TYPE.CORONAL, sagittal: SLICE_TYPE.SAGITTAL,
      multi: SLICE_TYPE.MULTIPLANAR, render: SLICE_TYPE.RENDER,
    };
    viewer.onLocationChange = tell;
    byId("open").hidden = true;
    document.getElementById("viewer").hidden = false;
    await viewer.attachToCanvas(canvas);
    canvas.viewer = viewer;
    await load();
    canvas.focus();
  };

  const later = (work) => {
    loading = loading.then(work).catch((error) => complain(`The viewer can't show this volume (${error.message}); the slices above show the same cases.`));
    return loading;
  };

  const STEPS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -1e6, End: 1e6 };
  const TURNS = { ArrowUp: [0, 10], ArrowDown: [0, -10], ArrowLeft: [-10, 0], ArrowRight: [10, 0] };
  // Before NiiVue's own keys, which move in other ways.
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "Tab") { event.stopImmediatePropagation(); return; }
    event.stopImmediatePropagation();
    const flat = plane() !== "render";
    if (flat && event.key in STEPS) go(slice() + STEPS[event.key]);
    else if (!flat && event.key in TURNS) {
      const [turn, tilt] = TURNS[event.key];
      viewer.setRenderAzimuthElevation(viewer.scene.renderAzimuth + turn, viewer.scene.renderElevation + tilt);
    } else return;
    event.preventDefault();
  }, true);
  slider.addEventListener("input", () => go(Number(slider.value)));
  number.addEventListener("change", () => go(number.valueAsNumber));
  byId("case").addEventListener("change", () => later(load));
  byId("opacity").addEventListener("input", showMaps);
  for (const name of ["image", ...MAPS]) byId(name).addEventListener("change", showMaps);
  document.querySelectorAll('input[name="plane"]').forEach((radio) => radio.addEventListener("change", showPlane));
  byId("open").addEventListener("click", () => { byId("open").disabled = true; later(start); });

  if (!document.createElement("canvas").getContext("webgl2")) complain("The viewer needs WebGL 2, which this browser does not support; the slices above show the same cases.");
  else if (typeof DecompressionStream === "undefined") complain("The viewer needs a browser from 2023 or later; the slices above show the same cases.");
  else byId("open").hidden = false;
})();
