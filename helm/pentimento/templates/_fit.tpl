{{/* Words of a fit, after the launcher's. */}}
{{- define "pentimento.fit.words" -}}
- -m
- trainer.fit
- {{ .Values.fit.network }}
- --resume
- --steps
- {{ .Values.fit.steps | quote }}
- --out
- /fits/{{ .Values.fit.name }}/{{ .Values.fit.network }}.safetensors
{{- range .Values.fit.photos }}
- --photos
- /data/{{ . }}
{{- end }}
{{- range .Values.fit.arguments }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "pentimento.fit.resources" -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.fit.resources) (dict "limits" (dict .Values.fit.gpuResource .Values.fit.gpusPerNode))) -}}
{{- end -}}

{{- define "pentimento.fit.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: shared-memory, mountPath: /dev/shm}
- {name: data, mountPath: /data, readOnly: true}
- {name: work, mountPath: /fits}
{{- end -}}

{{- define "pentimento.fit.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 16Gi}
- name: shared-memory
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.fit.sharedMemory }}}
- name: data
  persistentVolumeClaim: {claimName: {{ .Values.fit.existingClaim }}, readOnly: true}
- name: work
  persistentVolumeClaim: {claimName: {{ .Values.fit.workClaim }}}
{{- end -}}
