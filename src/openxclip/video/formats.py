"""The formats that are read, with the suffixes of their files.

Files are recognised by their content. Suffixes only matter when a folder is searched.
"""

from __future__ import annotations

# Demuxers of one kind of file each, whose suffix is the demuxer's name
_SAME_SUFFIX = (  # noqa: SIM905
    "amv apng apv cine dnxhd flv gxf h261 h263 ipu ivf ivr kux lxf moflex mxf mxg nsv nut nuv obu pva roq ser smk swf "
    "thp ty usm vc1 webm wtv"
).split()
# Demuxers that share the suffixes of another, mostly read sound, or are for the files of old recorders, cameras, games
# and animations, which a search doesn't look for
_NO_SUFFIX = (  # noqa: SIM905
    "4xm anm argo_brp asf_o av1 avs bethsoftvid bfi bmv c93 cdg cdxl dfa dsicin dxa ea film_cpk filmstrip frm gdv hnm "
    "hxvs idcin iff ifv ingenient ipmovie iv8 jv live_flv lmlm4 luodat lvf m4v mgsts mjpeg_2000 mm mods mpjpeg "
    "msnwctcp mtv mv mvi nc paf pdv pmp psxstr r3d rl2 rpl sdr2 sga siff simbiosis_imx smjpeg smush tiertexseq tmv txd "
    "vividas wc3movie xmv yop "
    # images that this package doesn't read with Pillow
    "alias_pix brender_pix cri_pipe dds_pipe dpx_pipe exr_pipe fits gem_pipe hdr_pipe ico j2k_pipe jpegls_pipe "
    "pam_pipe pcx_pipe pfm_pipe pgmyuv_pipe pgx_pipe phm_pipe photocd_pipe pictor_pipe psd_pipe qdraw_pipe qoi_pipe "
    "sgi_pipe sunrast_pipe vbn_pipe xbm_pipe xpm_pipe xwd_pipe "
    # sound, recognised in order to refuse it with the right message
    "aac ac3 aiff amr ape au caf dts eac3 flac mp3 tta w64 wav wv"
).split()

#: FFmpeg's demuxers that open a single file, with the suffixes of their videos. Playlists and scripts (concat, hls,
#: dash, sdp, lavfi) are excluded: they make FFmpeg open any file they name.
DEMUXERS = {
    "mov": "mov qt mp4 m4v mp4v mpg4 3gp 3gpp 3g2 3gp2 mj2 mjp2 f4v ism ismv psp mqv insv lrv heics avifs 360",
    "matroska": "mkv mk3d",
    "avi": "avi divx xvid",
    "mpegts": "ts m2t m2ts mts tod trp tp",
    "mpeg": "mpg mpeg mpe vob mod m2p evo",
    "mpegvideo": "m1v m2v mpv",
    "asf": "asf wmv dvr-ms",
    "ogg": "ogv ogm",
    "h264": "h264 264 avc h26l",
    "hevc": "hevc h265 265",
    "vvc": "vvc h266 266",
    "cavsvideo": "cavs",
    "dirac": "drc",
    "mjpeg": "mjpg mjpeg",
    "yuv4mpegpipe": "y4m",
    "rm": "rm rmvb",
    "dv": "dv dif",
    "bink": "bik bk2",
    "vc1test": "rcv",
    "dhav": "dav",
    "vivo": "viv",
    "flic": "fli flc flx",
    "wsvqa": "vqa",
    **{name: name for name in _SAME_SUFFIX},
    **dict.fromkeys(_NO_SUFFIX, ""),
}

#: Suffixes of images that can be the frames of a folder's video.
IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .jfif .jpe .jpeg .jpg .mpo .pbm .pfm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)

_ANIMATED_IMAGES = frozenset({".gif", ".webp"})

#: Suffixes of videos, and of images that are mostly animated.
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffixes in DEMUXERS.values() for suffix in suffixes.split()) | (
    _ANIMATED_IMAGES
)

#: Suffixes of images that may be animated; only the content shows it.
MAY_BE_ANIMATED = frozenset({".gif", ".webp", ".png", ".apng", ".avif", ".avifs", ".heic", ".heif", ".heics"})

#: Video suffixes that text files have too (TypeScript, Go and Fortran modules).
MAY_BE_TEXT = frozenset({".ts", ".mts", ".mod"})

ARRAY_SUFFIX = ".npy"
