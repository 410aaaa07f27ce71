{{/* What every container has. (dict "root" $ "image" "services" "gpu" false) */}}
{{- define "pentimento.container" -}}
image: {{ include "pentimento.image" (dict "root" .root "name" .image "gpu" (default false .gpu)) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
workingDir: /tmp # Faust makes a folder where it starts
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{/* The environment of a program: (dict "root" $ "secrets" (list ...) "extra" list). */}}
{{- define "pentimento.environment" -}}
envFrom:
  - configMapRef:
      name: {{ include "pentimento.fullname" .root }}
env:
  {{- include "pentimento.secrets" . | nindent 2 }}
  {{- with .own }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .extra }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Where certificates and the policy are seen. */}}
{{- define "pentimento.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if (include "pentimento.kafka" . | fromYaml).caSecret }}
- {name: kafka-ca, mountPath: /etc/pentimento/kafka, readOnly: true}
{{- end }}
{{- if (include "pentimento.kafka" . | fromYaml).clientSecret }}
- {name: kafka-client, mountPath: /etc/pentimento/kafka-client, readOnly: true}
{{- end }}
{{- if (include "pentimento.postgres" . | fromYaml).caSecret }}
- {name: postgres-ca, mountPath: /etc/pentimento/postgres, readOnly: true}
{{- end }}
{{- if .Values.policy }}
- {name: policy, mountPath: /etc/pentimento/policy, readOnly: true}
{{- end }}
{{- end -}}

{{- define "pentimento.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- with include "pentimento.kafka" . | fromYaml }}
{{- if .caSecret }}
- name: kafka-ca
  secret:
    secretName: {{ .caSecret }}
    items: [{key: {{ .caKey }}, path: ca.crt}]
{{- end }}
{{- if .clientSecret }}
- name: kafka-client
  secret:
    secretName: {{ .clientSecret }}
    items: [{key: {{ .certificateKey }}, path: tls.crt}, {key: {{ .keyKey }}, path: tls.key}]
{{- end }}
{{- end }}
{{- with include "pentimento.postgres" . | fromYaml }}
{{- if .caSecret }}
- name: postgres-ca
  secret:
    secretName: {{ .caSecret }}
    items: [{key: {{ .caKey }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- if .Values.policy }}
- name: policy
  configMap:
    name: {{ include "pentimento.fullname" . }}-policy
{{- end }}
{{- end -}}

{{/* Waits for tables and topics, since a worker that comes before its topics never sees them. */}}
{{- define "pentimento.wait" -}}
- name: wait
  {{- include "pentimento.container" (dict "root" . "image" "services") | nindent 2 }}
  command: [pentimento, prepare, --check, --wait, {{ .Values.prepare.waitSeconds | quote }}]
  {{- include "pentimento.environment" (dict "root" . "secrets" (list "kafka" "postgres")) | nindent 2 }}
  resources:
    {{- toYaml .Values.prepare.resources | nindent 4 }}
  volumeMounts:
    {{- include "pentimento.mounts" . | nindent 4 }}
{{- end -}}

{{/* What every pod has but containers and volumes. (dict "root" $ "component" "api" "class" "serving" "gpu" false) */}}
{{- define "pentimento.pod" -}}
{{- $root := .root -}}
{{- $scheduling := $root.Values.scheduling -}}
serviceAccountName: {{ default (include "pentimento.serviceAccount" $root) .serviceAccount }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $class := include "pentimento.priority" (dict "root" $root "class" (default "serving" .class)) }}
{{- with $class }}
priorityClassName: {{ . }}
{{- end }}
{{- with include "pentimento.placement" (dict "root" $root "gpu" (default false .gpu)) }}
{{ . }}
{{- end }}
{{- if .spread }}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: {{ $scheduling.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "pentimento.selector" (dict "root" $root "component" $.component) | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* On which nodes: (dict "root" $ "gpu" true). */}}
{{- define "pentimento.placement" -}}
{{- $scheduling := .root.Values.scheduling -}}
{{- $labels := ternary (mergeOverwrite (dict) $scheduling.nodeSelector $scheduling.gpuNodeSelector) $scheduling.nodeSelector .gpu -}}
{{- $tolerations := ternary (concat $scheduling.tolerations $scheduling.gpuTolerations) $scheduling.tolerations .gpu -}}
{{- $placement := dict -}}
{{- if $labels }}{{ $_ := set $placement "nodeSelector" $labels }}{{ end -}}
{{- if $tolerations }}{{ $_ := set $placement "tolerations" $tolerations }}{{ end -}}
{{- if $placement }}{{ toYaml $placement }}{{ end -}}
{{- end -}}

{{- define "pentimento.priority" -}}
{{- $priority := .root.Values.scheduling.priority -}}
{{- $named := index $priority .class -}}
{{- if $priority.create -}}
{{- default (printf "%s-%s" (include "pentimento.fullname" .root) .class) $named -}}
{{- else -}}
{{- $named -}}
{{- end -}}
{{- end -}}

{{/* Restarts pods when what they read has changed. */}}
{{- define "pentimento.checksums" -}}
checksum/settings: {{ printf "%s%s" (include "pentimento.settings" .) .Values.policy | sha256sum }}
{{- end -}}
